#!/usr/bin/env python3
"""Prints "N passed, N failed" for the JUnit files that ctest wrote, with the names of failed and skipped tests before it.
A file that is not there counts as one failure: its tests never started. usage: ctest_summary.py FILE..."""
import os
import sys
import xml.etree.ElementTree

passed, failed, skipped = 0, [], []
for path in sys.argv[1:]:
    if not os.path.exists(path):
        failed.append(f"no {path}")
        continue
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        if case.get("status") == "run":
            passed += 1
        elif case.get("status") == "notrun" or case.find("skipped") is not None:
            skipped.append(case.get("name"))
        else:
            failed.append(case.get("name"))
if skipped:
    print("skipped: " + ", ".join(skipped))
if failed:
    print("failed: " + ", ".join(failed))
print(f"{passed} passed, {len(failed)} failed")

#!/usr/bin/env python3
"""Prints "N passed, N failed" for the JUnit files that ctest wrote, with the names of failed and skipped tests before it.
usage: ctest_summary.py FILE..."""
import sys
import xml.etree.ElementTree

passed, failed, skipped = 0, [], []
for path in sys.argv[1:]:
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

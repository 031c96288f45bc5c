#!/usr/bin/env python3
"""What README.md says is true: its embed example is examples/hello.c, which runs; its links, files and options exist.
usage: test_readme.py BUILD_FOLDER"""
import os
import pathlib
import re
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUILD = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 else ROOT / "build"
SHARED = pathlib.Path(os.environ.get("LLMO_SHARED", ROOT.parent / "shared"))


class Readme(unittest.TestCase):
    def test_the_embed_example_is_hello_c(self):
        block = re.search(r"## Embed it.*?```c\n(.*?)```", README, re.S).group(1)
        self.assertEqual(block, (ROOT / "examples/hello.c").read_text(encoding="utf-8"))
        self.assertLessEqual(block.count("\n"), 45, "one screen")

    def test_hello_generates(self):
        model = SHARED / "data/models/stories260K.gguf"
        if not model.exists():
            self.skipTest(f"no model at {model}")
        runs = [subprocess.run([BUILD / "examples" / "hello", model, "Once upon a time"], capture_output=True, timeout=300)
                for _ in range(2)]
        self.assertEqual(runs[0].returncode, 0, runs[0].stderr)
        self.assertGreater(len(runs[0].stdout), 40)
        self.assertEqual(runs[0].stdout, runs[1].stdout)  # the default seed is fixed

    def test_hello_reports_failures(self):
        run = subprocess.run([BUILD / "examples" / "hello", "/no/such/model.gguf"], capture_output=True, timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertIn(b"LLMO_E_IO", run.stderr)

    def test_links_and_files_exist(self):
        names = re.findall(r"\]\(([^)#:]+)\)", README)
        names += re.findall(r"`((?:lib|cpu|cuda|examples|tests|docs|include|bindings)/[\w./-]+?)`", README)
        self.assertGreater(len(names), 8)
        for name in names:
            if "<" not in name:
                self.assertTrue((ROOT / name).exists(), name)

    def test_commands_and_options_exist(self):
        top = subprocess.run([BUILD / "llmo", "--help"], capture_output=True, text=True, timeout=60).stdout
        for line in re.findall(r"^build/llmo (.*?)(?: #.*)?$", README, re.M):
            command = line.split()[0]
            self.assertIn(command, top)
            own = subprocess.run([BUILD / "llmo", command, "--help"], capture_output=True, text=True, timeout=60).stdout
            for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", line):
                self.assertIn(option, own, f"llmo {command}")
        cache = (BUILD / "CMakeCache.txt").read_text()
        for option in set(re.findall(r"`(LLMO_(?:CUDA|TOOLS|TESTS|INSTALL|SANITIZE))", README)):
            self.assertIn(option + ":", cache)


if __name__ == "__main__":
    unittest.main(verbosity=2)

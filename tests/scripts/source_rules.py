#!/usr/bin/env python3
"""Checks rules about the sources that no compiler knows. usage: source_rules.py SOURCE_FOLDER

  1  lib/, cpu/ and cuda/ never end the process, print, or read the environment (lib/debug.c alone does that)
  2  intrinsics are in cpu/vec_*.h and cpu/isa_*.c only, and no other folder but cpu/ names an instruction set
  3  cpu/ and cuda/ include of ours only include/, lib/iface/ and their own folder; lib/ nothing of cpu/ and cuda/;
     examples/ nothing but llmoffload.h and headers of their own
  4  files over 600 lines are listed, files over 900 refused outside tests/; tables are exempt
  5  every file of lib/, cpu/ and cuda/ opens with a comment
"""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "abi"))
from header import strip_comments  # noqa: E402

BANNED = re.compile(r"(?<![\w.>])(abort|exit|_exit|_Exit|quick_exit|assert|printf|fprintf|vprintf|vfprintf|puts|putchar|"
                    r"fputs|perror|longjmp|setjmp|signal|sigaction|raise|system|setlocale|getenv|secure_getenv)\s*\(")
INTRINSIC = re.compile(r"\b_mm\d*_\w+|\b__m(?:128|256|512)\w*\b|\bimmintrin\.h|\bx86intrin\.h|\barm_neon\.h|\bvld1q?_\w+|"
                       r"\b__builtin_ia32_(?!pause\b)\w+")
INSTRUCTION_SET = re.compile(r"__attribute__\s*\(\(\s*target\b|#\s*pragma\s+GCC\s+target|__builtin_cpu_supports")
INCLUDE = re.compile(r'^[ \t]*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
SOFT_LINES, HARD_LINES = 600, 900


def without_strings(code):
    return re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', code)


def main():
    root = pathlib.Path(sys.argv[1])
    files = sorted(p for folder in ("include", "lib", "cpu", "cuda", "examples", "tests", "bindings")
                   for p in (root / folder).rglob("*") if p.suffix in (".c", ".h", ".cu", ".cuh", ".def", ".inc", ".hpp", ".py"))
    own = {}  # header name -> folders that have it
    for p in files:
        if p.suffix in (".h", ".cuh", ".def", ".inc"):
            own.setdefault(p.name, set()).add(p.parent.relative_to(root).as_posix())
    complaints, remarks, seen = [], [], 0

    def complain(path, text, offset, what):
        complaints.append(f"{path.relative_to(root)}:{text.count(chr(10), 0, offset) + 1}: {what}")

    for p in files:
        path = p.relative_to(root).as_posix()
        top = path.split("/")[0]
        text = p.read_text(encoding="utf-8")
        lines = text.count("\n")
        if "tables" not in p.name and lines > SOFT_LINES and path != "include/llmoffload.h":
            (complaints if lines > HARD_LINES and top != "tests" else remarks).append(f"{path}: {lines} lines")
        if p.suffix == ".py" or top not in ("lib", "cpu", "cuda", "examples"):
            continue
        seen += 1
        code = strip_comments(text)
        bare = without_strings(code)
        if top != "examples":
            if not text.startswith("/*") and not text.startswith("//"):
                complain(p, text, 0, "does not open with a comment that says what the file does")
            for m in BANNED.finditer(bare):
                if not (path == "lib/debug.c" and m.group(1) == "getenv"):
                    complain(p, bare, m.start(), m.group(1) + " is not allowed in the library")
            if not re.match(r"cpu/(vec_\w+\.h|isa_\w+\.c)$", path) and top != "cuda":
                for m in INTRINSIC.finditer(code):
                    complain(p, code, m.start(), m.group(0) + " belongs into cpu/vec_*.h")
            if top != "cpu":
                for m in INSTRUCTION_SET.finditer(code):
                    complain(p, code, m.start(), m.group(0) + " belongs into cpu/")
        for m in INCLUDE.finditer(code):
            name = m.group(2).split("/")[-1]
            where = own.get(name)
            if m.group(1) == "<" and name != "llmoffload.h" or where is None:
                continue
            if top == "lib":
                allowed = {f for f in where if f == "include" or f.startswith("lib")}
            elif top == "examples":
                allowed = {f for f in where if f == "include" or f.startswith("examples")}
            else:
                allowed = {f for f in where if f in ("include", "lib/iface") or f.split("/")[0] == top}
            if ".." in m.group(2) or not allowed:
                complain(p, code, m.start(), f"{top}/ may not include {m.group(2)}")

    if seen < 10:
        complaints.append("found hardly any source, so nothing was checked")
    for r in remarks:
        print("remark:", r, f"(soft cap {SOFT_LINES})")
    for c in complaints:
        print(c)
    print(f"{seen} files, {len(complaints)} complaints")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()

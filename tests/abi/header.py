#!/usr/bin/env python3
"""Reads include/llmoffload.h for the interface checks: what it declares, and whether each call is documented.

  header.py HEADER layout      a C program that prints every size, offset, enum value and constant of the header
  header.py HEADER functions   names of all LLMO_API functions, sorted
  header.py HEADER docs        fails if an LLMO_API declaration, struct, enum or callback lacks a comment

It knows C only as far as this header uses it and fails on anything it cannot place, so that nothing is left out
silently. It must not know what the library does.
"""
import re
import sys

# They change with each release and are no part of the layout.
NOT_LAYOUT = re.compile(r"LLMO_VERSION_|LLMO_API$|LLMO_STATUS_LIST$|LLMO_STATUS_ENUM_$")


class HeaderError(Exception):
    pass


def strip_comments(text):
    """Comments become blanks; line numbers stay."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.S)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def member_name(declaration):
    """The name that a struct member declares, or an error."""
    function_pointer = re.fullmatch(r"[\w\s*]+?\(\s*\*\s*(\w+)\s*\)\s*\(.*\)", declaration, re.S)
    if function_pointer:
        return function_pointer.group(1)
    plain = re.fullmatch(r"[A-Za-z_][\w\s*]*[\s*](\w+)(\s*\[\s*\w+\s*\])*", declaration, re.S)
    if plain and "," not in declaration:
        return plain.group(1)
    raise HeaderError("cannot read the struct member: " + " ".join(declaration.split()))


def structs(code):
    """[(name, [members])] of all structs with a body."""
    found = []
    for m in re.finditer(r"typedef\s+struct\s+(\w+)\s*\{(.*?)\}\s*(\w+)\s*;", code, re.S):
        members = [member_name(d.strip()) for d in m.group(2).split(";") if d.strip()]
        if m.group(1) != m.group(3):
            raise HeaderError("tag and name differ: " + m.group(1))
        found.append((m.group(1), members))
    if len(found) != len(re.findall(r"\bstruct\s+\w*\s*\{", code)) or re.search(r"\bunion\b", code):
        raise HeaderError("a struct or union has a form that this script does not know")
    return found


def enums(code):
    """[(name, [constants])] of all enums but the status list, which is a macro."""
    found = []
    for m in re.finditer(r"typedef\s+enum\s+(\w+)\s*\{(.*?)\}\s*(\w+)\s*;", code, re.S):
        constants = [c.split("=")[0].strip() for c in m.group(2).split(",") if c.strip()]
        for c in constants:
            if not re.fullmatch(r"LLMO_[A-Z0-9_]+", c):
                raise HeaderError("cannot read the constant: " + c)
        found.append((m.group(1), constants))
    anonymous = re.findall(r"\benum\s*\{(.*?)\}", code, re.S)
    if len(anonymous) != 1 or "LLMO_STATUS_LIST(" not in anonymous[0]:
        raise HeaderError("an enum has a form that this script does not know")
    return found


def constants(code):
    """Object-like macros with a value."""
    joined = code.replace("\\\n", " ")
    return [m.group(1) for m in re.finditer(r"^#define[ \t]+(LLMO_\w+)[ \t]+\S", joined, re.M)
            if not NOT_LAYOUT.match(m.group(1))]


def functions(code):
    """Names of all declared functions, in the header's order."""
    found = []
    for m in re.finditer(r"^LLMO_API\b[^;{]*?\b(llmo_\w+)\s*\([^;{]*\)\s*;", code, re.M):
        found.append(m.group(1))
    prototypes = re.findall(r"^(?!#|typedef|\s)[^#\n;{}]*?\b(llmo_\w+)\(", code, re.M)
    missing = set(prototypes) - set(found)
    if missing:
        raise HeaderError("declared without LLMO_API: " + ", ".join(sorted(missing)))
    if len(set(found)) != len(found) or len(found) != len(re.findall(r"^LLMO_API\b", code, re.M)):
        raise HeaderError("a declaration has a form that this script does not know, or is there twice")
    return found


def layout_program(text):
    code = strip_comments(text)
    out = ["/* Made by header.py from llmoffload.h. */", "#include <stddef.h>", "#include <stdio.h>",
           '#include "llmoffload.h"', "",
           "#define SIZE(s) printf(\"struct %s size %zu\\n\", #s, sizeof(s))",
           "#define FIELD(s, f) printf(\"    %s offset %zu size %zu\\n\", #f, offsetof(s, f), sizeof(((s *)0)->f))",
           "#define VALUE(c) printf(\"    %s %lld\\n\", #c, (long long)(c))",
           "#define STATUS(value, name, text) VALUE(LLMO_##name);", "", "int main(void) {"]
    for name, members in structs(code):
        out.append(f"    SIZE({name});")
        out += [f"    FIELD({name}, {m});" for m in members]
    for name, values in enums(code):
        out.append(f'    printf("enum {name} size %zu\\n", sizeof({name}));')
        out += [f"    VALUE({v});" for v in values]
    out += ['    printf("llmo_status size %zu\\n", sizeof(llmo_status));', "    LLMO_STATUS_LIST(STATUS)",
            '    printf("llmo_token size %zu\\n", sizeof(llmo_token));', '    printf("constants\\n");']
    out += [f"    VALUE({c});" for c in constants(code)]
    out += ["    return 0;", "}", ""]
    return "\n".join(out)


def check_docs(text):
    """A declaration is documented by the comment that ends on the line above it, or on the line above the group of
    declarations without a blank line between them that it belongs to. Only the functions every type has (init, destroy,
    error) may go without one: the header's rules describe them. Returns the complaints."""
    complaints = []
    code_lines = strip_comments(text).split("\n")
    lines = text.split("\n")
    by_rule = re.compile(r"llmo_\w+_(params_init|destroy|error)$")
    for i, line in enumerate(code_lines):
        is_function = line.startswith("LLMO_API")
        is_type = re.match(r"typedef (struct|enum) \w+ \{", line)
        if not is_function and not is_type:
            continue
        if is_function:
            name = re.search(r"\b(llmo_\w+)\s*\(", " ".join(code_lines[i:i + 2])).group(1)
        else:
            name = re.match(r"typedef (?:struct|enum) (\w+)", line).group(1)
        above = i - 1
        while above >= 0 and code_lines[above].strip():  # up through the group
            above -= 1
        comment = lines[above].strip()
        words = 0
        while above >= 0 and lines[above].strip() and not code_lines[above].strip():
            words += len(re.findall(r"[A-Za-z]{2,}", lines[above]))
            above -= 1
        documented = comment.endswith("*/") and words >= 3 and "====" not in comment
        if is_type:
            # a struct or enum may instead explain itself member by member, or by what its info call says
            end = next(j for j in range(i, len(lines)) if "}" in code_lines[j])
            documented = documented or "/*" in "\n".join(lines[i:end + 1]) or name.endswith(("_kind", "_level", "_type"))
        if not documented and not by_rule.match(name):
            complaints.append(f"llmoffload.h:{i + 1}: {name} has no comment")
    return complaints


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        text = f.read()
    try:
        if sys.argv[2] == "layout":
            print(layout_program(text), end="")
        elif sys.argv[2] == "functions":
            print("\n".join(sorted(functions(strip_comments(text)))))
        elif sys.argv[2] == "docs":
            complaints = check_docs(text)
            print("\n".join(complaints) or f"{len(functions(strip_comments(text)))} functions documented")
            sys.exit(1 if complaints else 0)
        else:
            sys.exit(__doc__)
    except HeaderError as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()

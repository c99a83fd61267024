#!/usr/bin/python3
"""The built preload against the table it was generated from, and the table against libc's own dynamic symbols.

Usage: table_test.py NAMES LIBRARY LIBC OBJECT...
"""
import re
import subprocess
import sys

HEAP = {"malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "_Znwm", "_Znam", "_ZdlPv", "_ZdlPvm"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def table(path):
    """{form: [name, ...]} from the expanded table."""
    forms = {"exported": [], "internal": [], "known": [], "foreign": []}
    for form, name in re.findall(r"(\w+):(\w+);", open(path, encoding="utf-8").read()):
        forms[form].append(name)
    return forms


def dynamic_symbols(path):
    """{name: type} of what an object defines for others."""
    symbols = {}
    for line in output("readelf", "--dyn-syms", "--wide", path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit() and fields[6] != "UND" and fields[4] != "LOCAL":
            symbols[fields[7].split("@")[0]] = fields[3]
    return symbols


def check(what, wrong):
    if wrong:
        sys.exit(f"{what}: {', '.join(sorted(wrong))}")
    print(f"ok: no {what}")


def main(names, library, libc, *objects):
    forms = table(names)
    foreign = forms.pop("foreign")
    listed = [name for form in forms.values() for name in form]
    exported = set(forms["exported"] + foreign)
    assert exported, "the table exports nothing"
    in_libc = dynamic_symbols(libc)
    ours = dynamic_symbols(library)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "--dynamic", "--wide", library)))
    undefined = {line.split()[-1] for path in objects for line in output("nm", "-u", path).splitlines()}

    check("name listed twice", {name for name in listed if listed.count(name) > 1})
    check("name that libc does not have", set(listed) - set(in_libc))
    check("name that is no function in libc", {n for n in listed if in_libc[n] not in ("FUNC", "IFUNC")})
    check("name of the table that the library does not export", exported - set(ours))
    check("name that the library exports beside the table", set(ours) - exported)
    check("library needed beside libc and its loader", {n for n in needed if n != "libc.so.6" and not n.startswith("ld-linux")})
    check("call of our own through an interposed name", undefined & exported)
    check("use of the heap", undefined & HEAP)


main(*sys.argv[1:])

#!/usr/bin/python3
"""Refuses an #include against the direction of the folders.

    wire <- store, broker <- file, memory, image <- engine <- runtime; preload sees only wire.

A folder may include itself and every folder in a layer below its own. Usage: includes_test.py SOURCE_ROOT
"""
import pathlib
import re
import sys

LAYERS = [["shim/wire"], ["shim/store", "shim/broker"], ["shim/file", "shim/memory", "shim/image"],
          ["shim/engine"], ["runtime"]]


def allowed():
    """{folder: folders it may include}"""
    result, below = {}, set()
    for layer in LAYERS:
        for folder in layer:
            result[folder] = below | {folder}
        below = below | set(layer)
    result["preload"] = {"shim/wire", "preload"}
    return result


def folder_of(path, folders):
    return next((folder for folder in folders if path.startswith(folder + "/")), None)


def main(root):
    rules, wrong, seen = allowed(), [], 0
    for folder in rules:
        for source in sorted(pathlib.Path(root, folder).rglob("*")):
            if source.suffix not in (".h", ".c", ".cpp", ".S", ".def", ".in"):
                continue
            seen += 1
            text = source.read_text(encoding="utf-8")
            for included in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.M):
                target = folder_of(included, rules)
                if target is None and pathlib.Path(source.parent, included).exists():
                    continue  # a neighbour, named without its folder
                if target not in rules[folder]:
                    wrong.append(f"{source.relative_to(root)} includes {included}")
    if wrong:
        sys.exit("against the direction of folders:\n  " + "\n  ".join(wrong))
    assert seen, f"no source below {root}"
    print(f"ok: {seen} files")


main(sys.argv[1])

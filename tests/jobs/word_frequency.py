"""Word frequency and line statistics of every .py file below a directory, with multiprocessing.Pool.

Usage: word_frequency.py [DIRECTORY] [PROCESSES]
"""
import collections
import multiprocessing
import os
import re
import sys

WORD = re.compile(r"[A-Za-z_]\w+")


def count(path):
    words = collections.Counter()
    lines = longest = blank = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            lines += 1
            longest = max(longest, len(line))
            blank += line.isspace()
            words.update(WORD.findall(line))
    return words, lines, longest, blank


def main():
    top = sys.argv[1] if len(sys.argv) > 1 else "/usr/lib/python3.11"
    processes = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    paths = sorted(os.path.join(folder, name)
                   for folder, _, names in os.walk(top) for name in names if name.endswith(".py"))
    total = collections.Counter()
    lines = longest = blank = 0
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for words, file_lines, file_longest, file_blank in pool.imap_unordered(count, paths, chunksize=8):
            total.update(words)
            lines += file_lines
            blank += file_blank
            longest = max(longest, file_longest)
    print(f"{len(paths)} files, {lines} lines, {blank} blank, longest {longest} characters")
    print(f"{sum(total.values())} words, {len(total)} different")
    for word, times in sorted(total.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(f"{times:8d} {word}")


if __name__ == "__main__":
    main()

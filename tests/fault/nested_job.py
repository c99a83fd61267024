"""Three processes, each the child of the one before, wait for each other; says what became of them.

A forks B, B forks C, C waits for the end of a pipe that the root holds. When the first line of output has named their
pids, the root waits for a line of input (`release`: C is let go), then for A, and lets the others go.
"""
import os
import sys


def level(number, say, hold):
    name = "ABC"[number]
    if name == "C":
        say(f"ready {name} {os.getpid()}")
        os.read(hold, 1)
        os._exit(3)
    child = os.fork()
    if child == 0:
        level(number + 1, say, hold)
    say(f"ready {name} {os.getpid()}")
    say(f"{'ABC'[number + 1]} ended {os.waitpid(child, 0)[1]}")
    os._exit(number + 1)


def main():
    news, tell = os.pipe()
    hold, held = os.pipe()

    def say(text):
        os.write(tell, text.encode() + b"\n")

    child = os.fork()
    if child == 0:
        os.close(held)
        os.close(news)
        level(0, say, hold)
    lines = os.fdopen(news)
    ready = sorted(lines.readline().split()[1:] for _ in range(3))
    print(*(pid for _, pid in ready), flush=True)
    if sys.stdin.readline() == "release\n":
        os.close(held)
        held = None
    print("A ended", os.waitpid(child, 0)[1], flush=True)
    os.close(tell)
    if held is not None:
        os.close(held)
    print(*sorted(lines), sep="")


main()

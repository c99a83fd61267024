#!/usr/bin/python3
"""A program outside of the session takes messages from a queue that one worker uses alone (shared/queue_outsider.c).

Usage: queue_outsider.py LAUNCHER PROGRAM

It gets as many as it waits for, and the session's processes get all others, in their order.
"""
import os
import subprocess
import sys

TAKEN = 25
ROUNDS = 4


def main():
    launcher, program = sys.argv[1:]
    name = f"/elsewhere-outsider-{os.getpid()}"
    command = [launcher, "run", "--workers", "1", "--strict", "--", program, "play", name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout.readline() == "playing\n"
        taken = []
        for _ in range(ROUNDS):
            done = subprocess.run([program, "take", name, str(TAKEN)], stdout=subprocess.PIPE, text=True, timeout=20,
                                  check=True)
            taken.append([int(line) for line in done.stdout.split()])
        session.stdin.write("\n")
        session.stdin.close()
        said = session.stdout.read().split()
    sent, got, ordered = int(said[1]), int(said[3]), said[5]
    print(f"sent {sent}, got {got}, taken {[each[0] for each in taken]}")
    assert (session.returncode, ordered) == (0, "1"), (session.returncode, said)
    assert all(each == sorted(each) and len(set(each)) == TAKEN for each in taken)
    assert got + ROUNDS * TAKEN == sent, "lost or doubled"


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""What a contained command leaves is gone: a process in a session of its own, a shared-memory object, a semaphore."""
import os
import sys
import tempfile

import contained

NAME = f"elsewhere-contained-{os.getpid()}"
# Other programs of the machine make queues, too.
KEY = 0x10000000 | os.getpid()
LEAVER = f"""
import ctypes, os, signal
open("/dev/shm/{NAME}", "w").close()
assert ctypes.CDLL(None).msgget({KEY}, 0o1600) >= 0
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        print("left", flush=True)
    while True:
        signal.pause()
"""


def has_queue():
    with open("/proc/sysvipc/msg", encoding="ascii") as file:
        return str(KEY) in file.read().split()


def main():
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as folder:
        status, left = contained.run(["/usr/bin/python3", "-c", LEAVER], 30, stdout=write, cwd=folder)
    os.close(write)
    with open(read, encoding="ascii") as output:
        said = output.read()  # ends when nobody is left that could write
    assert (status, said) == (0, "left\n"), (status, said)
    assert left and all(name.startswith("python3") for name in left), left
    assert not os.path.exists(f"/dev/shm/{NAME}"), "the shared-memory object is left"
    assert not has_queue(), "the message queue is left"
    assert contained.run(["false"], 30) == (1, []) and contained.run(["sleep", "30"], 0.1)[0] == "hangs"


if __name__ == "__main__":
    try:
        main()
    except contained.Impossible as why:
        print("tests cannot be contained here:", why)
        sys.exit(77)

# forks: 6
"""multiprocessing.Process: arguments, names, exit codes, terminate, kill, is_alive, daemon, sentinel."""
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time

mp = multiprocessing.get_context("fork")


def hello(name, pipe):
    print("hello", name, multiprocessing.current_process().name, os.getppid() == multiprocessing.parent_process().pid)
    pipe.send(os.getpid())


def leave(status):
    sys.exit(status)


def fail():
    os.abort()


def wait_for_ever(ready):
    ready.send("ready")
    while True:
        signal.pause()


def main():
    mine, theirs = mp.Pipe()
    child = mp.Process(target=hello, args=("world", theirs), name="first")
    child.start()
    print("pid agrees", mine.recv() == child.pid)
    child.join()
    print(child.exitcode, child.is_alive())

    for status in (0, 3):
        child = mp.Process(target=leave, args=(status,))
        child.start()
        multiprocessing.connection.wait([child.sentinel])
        child.join()
        print("left with", child.exitcode)

    child = mp.Process(target=fail)
    child.start()
    child.join()
    print("aborted with", child.exitcode)

    for end in ("terminate", "kill"):
        child = mp.Process(target=wait_for_ever, args=(theirs,), daemon=True)
        child.start()
        print(mine.recv(), child.is_alive())
        getattr(child, end)()
        child.join()
        print(end, child.exitcode, child.is_alive())


if __name__ == "__main__":
    main()
    sys.stdout.flush()

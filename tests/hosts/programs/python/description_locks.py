# forks: 3
"""Locks that belong to an open file description (F_OFD_*, flock), which a parent and its children share.

What one of them locks is no conflict for the others, whichever host they are on, and is there as long as any of them
has the description; who opened the file itself finds it. A wait that a signal interrupts leaves no lock behind.
"""
import errno
import fcntl
import os
import signal
import struct
import tempfile
import time

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
NAMES = {fcntl.F_RDLCK: "read", fcntl.F_WRLCK: "write", fcntl.F_UNLCK: "free"}


def lock(fd, command, kind, start, length, whence=os.SEEK_SET):
    try:
        answer = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, whence, start, length, 0))
    except OSError as error:
        return errno.errorcode[error.errno]
    found = struct.unpack("hhqqi4x", answer)
    if command != OFD_GETLK:
        return "done"
    return NAMES[found[0]] if found[0] == fcntl.F_UNLCK else (NAMES[found[0]], *found[1:])


def flock(fd, operation):
    try:
        return fcntl.flock(fd, operation)
    except OSError as error:
        return errno.errorcode[error.errno]


def somebody_waits(path):
    with open("/proc/locks", encoding="ascii") as locks:
        return any("->" in line and f":{os.stat(path).st_ino} " in line for line in locks)


def say(*what):
    print(*what, flush=True)


class Turn:
    def __init__(self):
        self.ends = os.pipe()

    def give(self):
        os.write(self.ends[1], b"x")

    def take(self):
        os.read(self.ends[0], 1)


class Interrupted(Exception):
    pass


def interrupt(*_):
    raise Interrupted


def ofd_child(files, childs, parents):
    childs.take()
    shared, other, writer = files
    say("child takes", lock(shared, OFD_SETLK, fcntl.F_WRLCK, 10, 10), lock(shared, OFD_GETLK, fcntl.F_WRLCK, 0, 0))
    say("child sees", lock(other, OFD_GETLK, fcntl.F_WRLCK, 0, 0), lock(other, OFD_SETLK, fcntl.F_RDLCK, 15, 1))
    say("child extends", lock(shared, OFD_SETLK, fcntl.F_WRLCK, 10, 5, os.SEEK_CUR))
    say("child locks output", lock(writer, OFD_SETLK, fcntl.F_WRLCK, 100, 10))
    say("wrong", lock(shared, OFD_SETLK, 7, 0, 0), lock(shared, OFD_SETLK, fcntl.F_WRLCK, -5, 0))
    parents.give()
    childs.take()
    say("child gives up", lock(shared, OFD_SETLK, fcntl.F_UNLCK, 0, 0))
    os._exit(0)


def waiting_child(files, childs, parents, way):
    signal.signal(signal.SIGUSR1, interrupt)
    parents.give()
    try:
        if way == "flock":
            fcntl.flock(files[1], fcntl.LOCK_EX)
        else:
            lock(files[1], OFD_SETLKW, fcntl.F_WRLCK, 10, 10)
        say("taken")
    except Interrupted:
        say("interrupted")
    parents.give()
    childs.take()
    os._exit(0)


def main():
    with tempfile.NamedTemporaryFile() as file:
        files = [os.open(file.name, os.O_RDWR), os.open(file.name, os.O_RDWR), os.open(file.name, os.O_WRONLY)]
        os.lseek(files[0], 20, os.SEEK_SET)
        childs, parents = Turn(), Turn()

        child = os.fork()
        if child == 0:
            ofd_child(files, childs, parents)
        say("parent takes", lock(files[0], OFD_SETLK, fcntl.F_WRLCK, 0, 30))
        say("parent gives back", lock(files[0], OFD_SETLK, fcntl.F_UNLCK, 15, 15))
        childs.give()
        parents.take()
        own = os.open(file.name, os.O_RDWR)
        say("parent has them too", lock(files[0], OFD_SETLK, fcntl.F_WRLCK, 0, 40))
        say("others do not", lock(own, OFD_GETLK, fcntl.F_WRLCK, 0, 0), lock(own, OFD_SETLK, fcntl.F_WRLCK, 105, 1))
        childs.give()
        say("status", os.waitpid(child, 0)[1])
        say("free", lock(own, OFD_GETLK, fcntl.F_WRLCK, 0, 50), "output", lock(own, OFD_GETLK, fcntl.F_WRLCK, 90, 50))

        for way in "flock", "ofd":
            say(way, flock(own, fcntl.LOCK_EX), lock(own, OFD_SETLK, fcntl.F_WRLCK, 0, 20))
            child = os.fork()
            if child == 0:
                waiting_child(files, childs, parents, way)
            parents.take()
            while not somebody_waits(file.name):
                time.sleep(0.001)  # nothing tells
            os.kill(child, signal.SIGUSR1)
            parents.take()
            say("let go", flock(own, fcntl.LOCK_UN), lock(own, OFD_SETLK, fcntl.F_UNLCK, 0, 20))
            say("nobody has it", flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB), lock(own, OFD_SETLK, fcntl.F_WRLCK, 0, 20))
            childs.give()
            say("status", os.waitpid(child, 0)[1])
            flock(own, fcntl.LOCK_UN)
            lock(own, OFD_SETLK, fcntl.F_UNLCK, 0, 0)


main()

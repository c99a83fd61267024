#!/usr/bin/python3
"""Random calls on everything that processes inherit, made by one process at a time, so that their results are certain.

Usage: turns.py SEED TURNS

The parent has pipes, socketpairs, plain files, an event counter, a message queue, shared memory and a semaphore in it.
Every turn it names a process, itself or one of its descendants, and a call; the process makes it and answers. Processes
fork others, close what they have and end. Each turn is told and answered through pipes, so what one process did
happened before the next one's call, wherever the two run: the printed results must be the same as on one host.
Left out is what runtime/stream/README.md names as a limit.
"""
import array
import ctypes
import errno
import fcntl
import json
import mmap
import os
import random
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios

PARENT = -1
PROCESSES = 10
SEMAPHORE_AT = 3 * 4096
OFD_GETLK, OFD_SETLK = 36, 37

libc = ctypes.CDLL(None, use_errno=True)


class QueueAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("flags", "maxmsg", "msgsize", "curmsgs")] + [("rest", ctypes.c_long * 4)]


class Objects:
    """What all processes inherit."""

    def __init__(self):
        self.directory = tempfile.mkdtemp()
        self.pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(3)]
        self.streams = self.sockets(socket.SOCK_STREAM) + self.sockets(socket.SOCK_STREAM)
        self.datagrams = self.sockets(socket.SOCK_DGRAM)
        paths = [os.path.join(self.directory, name) for name in "ab"]
        self.files = [os.open(paths[0], os.O_RDWR | os.O_CREAT), os.open(paths[1], os.O_RDWR | os.O_CREAT | os.O_APPEND)]
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.memory = mmap.mmap(-1, SEMAPHORE_AT + 4096)
        self.semaphore = ctypes.byref(ctypes.c_char.from_buffer(self.memory, SEMAPHORE_AT))
        libc.sem_init(self.semaphore, 1, 2)
        name, attributes = b"/turns-%d" % os.getpid(), QueueAttributes(0, 5, 64)
        self.queue = libc.mq_open(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600, ctypes.byref(attributes))
        libc.mq_unlink(name)

    @staticmethod
    def sockets(kind):
        pair = socket.socketpair(socket.AF_UNIX, kind)
        for end in pair:
            end.setblocking(False)
        return [end.detach() for end in pair]

    def descriptors(self):
        return {fd for pipe in self.pipes for fd in pipe}.union(self.streams, self.datagrams, self.files, [self.event])

    def close(self):
        contents = [open(os.path.join(self.directory, name), "rb").read().hex() for name in "ab"]
        shutil.rmtree(self.directory)
        return contents


def of_libc(result):
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def available(fd):
    bytes_there = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, bytes_there)
    return bytes_there[0]


def ready(fd, events):
    poll = select.poll()
    poll.register(fd, events)
    return [there for _, there in poll.poll(0)]


def count_of(semaphore):
    value = ctypes.c_int()
    libc.sem_getvalue(semaphore, ctypes.byref(value))
    return value.value


def look_and_take(fd, size):
    """What it only looked at is another host's as long as it has not been taken."""
    with socket.socket(fileno=os.dup(fd)) as end:
        return [end.recv(size, socket.MSG_PEEK).hex(), end.recv(size).hex()]


def shut_down(fd, way):
    with socket.socket(fileno=os.dup(fd)) as end:
        end.shutdown(way)


def record_lock(fd, command, kind, start, length):
    """A lock of the description; what a look found."""
    lock = fcntl.fcntl(fd, command, struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0))
    return struct.unpack("hhqqi4x", lock) if command == OFD_GETLK else 0


def receive(queue):
    room, priority = ctypes.create_string_buffer(64), ctypes.c_uint()
    size = libc.mq_receive(queue, room, 64, ctypes.byref(priority))
    return [of_libc(size), room.raw[:max(size, 0)].hex(), priority.value]


def make(objects, name, arguments):
    """The call's result, or the name of its error."""
    calls = {
        "write": lambda fd, data: os.write(fd, bytes.fromhex(data)),
        "read": lambda fd, size: os.read(fd, size).hex(),
        "pread": lambda fd, size, at: os.pread(fd, size, at).hex(),
        "lseek": os.lseek,
        "ftruncate": os.ftruncate,
        "fstat": lambda fd: os.fstat(fd).st_size,
        "flock": fcntl.flock,
        "record_lock": record_lock,
        "look_and_take": look_and_take,
        "shut_down": shut_down,
        "available": available,
        "poll": ready,
        "close": os.close,
        "set": lambda at, value: objects.memory.__setitem__(at, value),
        "get": lambda at, size: objects.memory[at:at + size].hex(),
        "sem_trywait": lambda: of_libc(libc.sem_trywait(objects.semaphore)),
        "sem_post": lambda: of_libc(libc.sem_post(objects.semaphore)),
        "sem_getvalue": lambda: count_of(objects.semaphore),
        "mq_send": lambda data, priority: of_libc(libc.mq_send(objects.queue, bytes.fromhex(data), len(data) // 2, priority)),
        "mq_receive": lambda: receive(objects.queue),
    }
    try:
        return calls[name](*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


class Channel:
    """Requests to one process and its answers."""

    def __init__(self):
        self.requests, self.answers = os.pipe(), os.pipe()

    @staticmethod
    def say(fd, what):
        text = json.dumps(what).encode()
        os.write(fd, struct.pack("I", len(text)) + text)

    @staticmethod
    def hear(fd):
        def exactly(size):
            text = b""
            while len(text) < size:
                part = os.read(fd, size - len(text))
                if not part:
                    os._exit(1)
                text += part
            return text
        return json.loads(exactly(struct.unpack("I", exactly(4))[0]))


class Process:
    """Serves the parent's requests, in the process that it is made in."""

    def __init__(self, objects, channels):
        self.objects, self.channels, self.children = objects, channels, {}

    def fork(self, number):
        child = os.fork()
        if child == 0:
            Process(self.objects, self.channels).serve(self.channels[number])
        self.children[number] = child
        return 0

    def wait(self, number):
        return os.waitstatus_to_exitcode(os.waitpid(self.children.pop(number), 0)[1])

    def act(self, name, arguments):
        if name == "fork":
            return self.fork(*arguments)
        if name == "wait":
            return self.wait(*arguments)
        return make(self.objects, name, arguments)

    def serve(self, channel):
        while True:
            name, arguments = Channel.hear(channel.requests[0])
            if name == "exit":
                os._exit(*arguments)
            Channel.say(channel.answers[1], self.act(name, arguments))


class Play:
    """The parent: chooses turns."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.objects = Objects()
        self.channels = [Channel() for _ in range(PROCESSES)]
        self.self = Process(self.objects, self.channels)
        self.unused = list(range(PROCESSES))
        self.parents = {}
        self.open = {PARENT: self.objects.descriptors()}

    def ask(self, process, name, *arguments):
        if process == PARENT:
            return self.self.act(name, arguments)
        channel = self.channels[process]
        Channel.say(channel.requests[1], [name, arguments])
        return None if name == "exit" else Channel.hear(channel.answers[0])

    def some(self, *sizes):
        return self.random.randbytes(self.random.choice(sizes)).hex()

    def calls(self, process):
        """What the process could do, each as often as it is likely."""
        choice, held, objects = self.random.choice, self.open[process], self.objects
        calls = [("set", self.random.randrange(64), self.random.randrange(256)), ("get", 0, 64), ("sem_trywait",),
                 ("sem_post",), ("sem_getvalue",), ("mq_send", self.some(1, 5, 64), choice([0, 1, 1, 9])), ("mq_receive",)]
        readers, writers = ([pipe[end] for pipe in objects.pipes if pipe[end] in held] for end in (0, 1))
        if readers:
            calls += [("read", choice(readers), choice([1, 3, 10, 100, 4096]))] * 4
            calls += [("available", choice(readers)), ("poll", choice(readers), select.POLLIN)]
        if writers:
            calls += [("write", choice(writers), self.some(1, 2, 7, 50, 300))] * 4
            calls += [("poll", choice(writers), select.POLLOUT)]
        for sockets, sizes in (objects.streams, (1, 7, 50)), (objects.datagrams, (0, 1, 7, 50)):
            ends = [fd for fd in sockets if fd in held]
            if len(ends) == len(sockets):  # of a closed peer the other end learns a moment later than natively
                calls += [("read", choice(ends), choice([1, 3, 100])), ("write", choice(ends), self.some(*sizes))] * 2
                calls += [("look_and_take", choice(ends), choice([1, 3, 100]))]
        if self.random.random() < 0.05:
            calls += [("shut_down", choice(objects.streams), choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))]
        files = [fd for fd in objects.files if fd in held]
        if files:
            file = choice(files)
            calls += [("write", file, self.some(1, 7, 50)), ("read", file, choice([1, 20])), ("pread", file, 30, choice([0, 10])),
                      ("lseek", file, choice([0, 5, 30]), choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END])), ("fstat", file)]
            calls.append(("record_lock", file, choice([OFD_GETLK, OFD_SETLK]),
                          choice([fcntl.F_RDLCK, fcntl.F_WRLCK]), choice([0, 5]), choice([3, 10])))
            calls.append(("record_lock", file, OFD_SETLK, fcntl.F_UNLCK, choice([0, 5]), choice([0, 3])))
            calls.append(("flock", file, choice([fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN]) | fcntl.LOCK_NB))
            if self.random.random() < 0.2:
                calls += [("ftruncate", file, choice([0, 10, 40]))]
        if objects.event in held:
            calls += [("write", objects.event, struct.pack("Q", choice([1, 2, 5])).hex()), ("read", objects.event, 8),
                      ("poll", objects.event, select.POLLIN)]
        return calls

    def fork(self, process):
        number = self.unused.pop(0)
        self.ask(process, "fork", number)
        self.parents[number] = process
        self.open[number] = set(self.open[process])
        print(process, "forks", number, flush=True)

    def end(self, number):
        self.ask(number, "exit", self.random.choice([0, 3, 77]))
        parent = self.parents.pop(number)
        del self.open[number]
        print(number, "ends", self.ask(parent, "wait", number), flush=True)

    def turn(self):
        process = self.random.choice(list(self.open))
        kind = self.random.random()
        if kind < 0.07 and self.unused:
            return self.fork(process)
        childless = [number for number in self.parents if number not in self.parents.values()]
        if 0.07 <= kind < 0.12 and childless:
            return self.end(self.random.choice(childless))
        closable = sorted(self.open[process] - set(self.objects.streams + self.objects.datagrams))
        if 0.12 <= kind < 0.15 and closable:
            name, *arguments = "close", self.random.choice(closable)
            self.open[process].discard(*arguments)
        else:
            name, *arguments = self.random.choice(self.calls(process))
        print(process, name, *arguments, "->", self.ask(process, name, *arguments), flush=True)
        return None

    def finish(self):
        while self.parents:
            self.end(next(number for number in self.parents if number not in self.parents.values()))
        print(*self.objects.close(), sep="\n")


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    play = Play(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        play.turn()
    play.finish()


main()

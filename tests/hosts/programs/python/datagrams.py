# forks: 2
"""Messages over socketpairs keep their borders, also empty ones, whichever hosts sender and receiver are on.

One process at a time makes a call. An end of a datagram socket that all have closed is closed.
"""
import array
import errno
import fcntl
import itertools
import json
import os
import signal
import socket
import termios

KINDS = {"datagram": socket.SOCK_DGRAM, "seqpacket": socket.SOCK_SEQPACKET}
PROCESSES = ["parent", "a", "b"]

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
PAIRS = [socket.socketpair(socket.AF_UNIX, kind) for kind in KINDS.values()]


def receive(end, size):
    text, _, flags, _ = end.recvmsg(size, 0, socket.MSG_DONTWAIT)
    return [text.decode(), bool(flags & socket.MSG_TRUNC)]


def available(end):
    there = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, there)
    return there[0]


CALLS = {
    "send": lambda end, text: end.send(text.encode(), socket.MSG_DONTWAIT),
    "receive": receive,
    "wait": lambda end: end.recv(10).decode(),
    "look": lambda end: end.recv(2, socket.MSG_DONTWAIT | socket.MSG_PEEK).decode(),
    "available": available,
    "close": lambda end: end.close(),
}


def act(pair, end, name, *arguments):
    try:
        return CALLS[name](PAIRS[pair][end], *arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


class Child:
    def __init__(self):
        self.requests, self.answers = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            while request := json.loads(os.read(self.requests[0], 1000)):
                os.write(self.answers[1], json.dumps(act(*request)).encode())
            os._exit(0)

    def tell(self, what):
        os.write(self.requests[1], json.dumps(what).encode())

    def answer(self):
        return json.loads(os.read(self.answers[0], 1000))

    def ask(self, what):
        self.tell(what)
        return self.answer()

    def end(self):
        self.tell([])
        return os.waitpid(self.pid, 0)[1]


def main():
    children = {"a": Child(), "b": Child()}

    def ask(who, *what):
        return act(*what) if who == "parent" else children[who].ask(what)

    for (pair, kind), end in itertools.product(enumerate(KINDS), (0, 1)):
        for sender, receiver in itertools.permutations(PROCESSES, 2):
            print(kind, sender, "to", receiver)

            def send(*texts):
                return [ask(sender, pair, end, "send", text) for text in texts]

            def there(name, *arguments):
                return ask(receiver, pair, 1 - end, name, *arguments)

            print(" empty", send("", "x", "", ""), [there("receive", 10) for _ in range(5)])
            print(" cut", send("abc", "def"), [there("receive", size) for size in (2, 9, 9)])
            print(" look", send("", "hello"), there("look"), there("receive", 9), there("available"), there("look"),
                  there("receive", 9), there("available"), there("look"))
            if receiver != "parent":
                children[receiver].tell((pair, 1 - end, "wait"))
                print(" awaited", send(""), children[receiver].answer(), there("receive", 9))
    for pair, kind in enumerate(KINDS):
        print(kind, "last", ask("a", pair, 1, "send", "left"), ask("a", pair, 1, "send", ""))
        print(" close", [ask(who, pair, 1, "close") for who in PROCESSES[::-1]])
        print(" what was left", [ask(who, pair, 0, "receive", 9) for who in ("b", "a")])
        print(" nobody", ask("parent", pair, 0, "send", "x"), ask("parent", pair, 0, "send", "x"))
    print([child.end() for child in children.values()])


main()

# forks: 2
"""A socket that one process shuts down is shut down for all that have it, on every host, and for its peer.

The parent and two children on two hosts have both ends of many socketpairs. One process at a time makes a call, so
that what a shutdown means for the next call of another one is certain.
"""
import errno
import itertools
import json
import os
import select
import signal
import socket

KINDS = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}
WAYS = {"rd": socket.SHUT_RD, "wr": socket.SHUT_WR, "rdwr": socket.SHUT_RDWR}
PROCESSES = ["parent", "a", "b"]

signal.signal(signal.SIGPIPE, signal.SIG_IGN)
CASES = list(itertools.product(KINDS, WAYS, PROCESSES, [False, True]))
PAIRS = [socket.socketpair(socket.AF_UNIX, KINDS[kind]) for kind, _, _, _ in CASES]


def ready(end):
    poll = select.poll()
    poll.register(end, select.POLLIN | select.POLLRDHUP)
    return [events for _, events in poll.poll(0)]


CALLS = {
    "send": lambda end, text: end.send(text.encode(), socket.MSG_DONTWAIT),
    "recv": lambda end: end.recv(10, socket.MSG_DONTWAIT).decode(),
    "shutdown": lambda end, way: end.shutdown(way),
    "ready": ready,
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

    def ask(self, what):
        os.write(self.requests[1], json.dumps(what).encode())
        return json.loads(os.read(self.answers[0], 1000))

    def end(self):
        os.write(self.requests[1], json.dumps([]).encode())
        return os.waitpid(self.pid, 0)[1]


def main():
    children = {"a": Child(), "b": Child()}

    def ask(who, *what):
        return act(*what) if who == "parent" else children[who].ask(what)

    for pair, (kind, way, who, full) in enumerate(CASES):
        print(kind, way, "by", who, "with bytes" if full else "empty")
        others = [other for other in PROCESSES if other != who]
        if full:
            print(" before", ask(others[0], pair, 0, "send", "forth"), ask(others[1], pair, 1, "send", "back"))
        print(" shutdown", ask(who, pair, 0, "shutdown", WAYS[way]))
        for other in [*others, who]:
            print(" ", other, "write", *[ask(other, pair, end, "send", "x") for end in (0, 1)])
        for other in [*others, who]:
            print(" ", other, "read", [ask(other, pair, end, "recv") for end in (0, 1, 0, 1)])
        print("  ready", [[ask(other, pair, end, "ready") for end in (0, 1)] for other in PROCESSES])
    print([child.end() for child in children.values()])


main()

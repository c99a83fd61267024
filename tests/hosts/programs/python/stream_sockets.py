# forks: 10
"""A child answers on a socket that does not block, polls it, and sees the end when the parent closes its side."""
import os
import select
import socket


def wait_readable(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    poll.poll()


def receive(sock):
    while True:
        try:
            return sock.recv(100)
        except BlockingIOError:
            wait_readable(sock)


for turn in range(10):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    child = os.fork()
    if child == 0:
        ours.close()
        while data := receive(theirs):
            theirs.send(data[::-1])
        os._exit(turn)
    theirs.close()
    for word in (b"abc", b"def"):
        ours.send(word)
        print(receive(ours))
    ours.close()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

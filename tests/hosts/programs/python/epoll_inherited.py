# forks: 2
"""A child inherits an epoll instance and never waits on it, as one of a pool that an event loop has started does: what is
watched stays the parent's. One that does wait on it sees what comes."""
import os
import select
import socket

reader, writer = socket.socketpair()
idle, other = socket.socketpair()
instance = select.epoll()
instance.register(reader, select.EPOLLIN)
there, back = os.pipe(), os.pipe()


def child(waits):
    pid = os.fork()
    if pid == 0:
        while os.read(there[0], 1) == b"?":
            os.write(back[1], b"!")
        if waits:
            print("child", instance.poll(20) == [(reader.fileno(), select.EPOLLIN)], reader.recv(10), flush=True)
        os._exit(0)
    return pid


def round_trip():
    os.write(there[1], b"?")
    return os.read(back[0], 1)


quiet = child(False)
for turn in range(3):
    round_trip()
    writer.send(b"%d" % turn)
    round_trip()
    print("parent", instance.poll(0) == [(reader.fileno(), select.EPOLLIN)], reader.recv(10, socket.MSG_DONTWAIT), flush=True)
os.write(there[1], b".")
os.waitpid(quiet, 0)
waiting = child(True)
round_trip()
writer.send(b"for the child")
os.write(there[1], b".")
os.waitpid(waiting, 0)

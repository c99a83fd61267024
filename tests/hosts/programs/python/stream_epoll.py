# forks: 2
"""Children that wait by epoll for an inherited socket: readable again and again, more than fits at once, the end."""
import asyncio
import os
import socket

SIZE = 1 << 20


async def upper(sock):
    reader, writer = await asyncio.open_connection(sock=sock)
    while line := await reader.readline():
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def count(sock):
    reader, writer = await asyncio.open_connection(sock=sock)
    total = 0
    while data := await reader.read(1000):
        total += len(data)
    writer.write(b"%d\n" % total)
    await writer.drain()
    writer.close()


def start(coroutine):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        asyncio.run(coroutine(theirs))
        os._exit(0)
    theirs.close()
    return ours


with start(upper) as sock, sock.makefile("rwb") as lines:
    for number in range(20):
        lines.write(b"line %d\n" % number)
        lines.flush()
        print(lines.readline())
print(os.wait()[1])

with start(count) as sock:
    sock.sendall(b"x" * SIZE)
    sock.shutdown(socket.SHUT_WR)
    print(sock.recv(100))
print(os.wait()[1])

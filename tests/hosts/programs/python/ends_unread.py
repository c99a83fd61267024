# forks: 12
"""Writers fill a pipe that nobody reads, and end one by one when they are told to; what is written after their ends
comes behind all of theirs."""
import os
import select
import signal

WRITERS = 6


def write(pipe, ready, number):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(number))
    block = bytes([ord("a") + number]) * 5000
    os.write(ready, b".")
    while True:
        os.write(pipe, block)


def run(read_before):
    reading, writing = os.pipe()
    are_ready, ready = os.pipe()
    children = []
    for number in range(WRITERS):
        child = os.fork()
        if child == 0:
            os.close(reading)
            write(writing, ready, number)
        children.append(child)
    got = 0
    while got < read_before:
        got += len(os.read(reading, 65536))
    for _ in children:
        os.read(are_ready, 1)
    while select.select([], [writing], [], 0.1)[1]:
        continue  # not full yet
    for number, child in reversed(list(enumerate(children))):
        os.kill(child, signal.SIGTERM)
        print(number, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os.set_blocking(writing, False)
    text = b""
    while select.select([], [writing], [], 0)[1] == []:
        text += os.read(reading, 65536)
    os.write(writing, b"last")
    os.close(writing)
    while block := os.read(reading, 65536):
        text += block
    print("the parent's word is", "last" if text.endswith(b"last") and text.count(b"last") == 1 else "not last",
          flush=True)


run(0)
run(4_000_000)

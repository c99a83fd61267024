# forks: 3
# home: a file in memory that can be written cannot move to another host
"""Files without a name that parent and child write: one file with one offset. One that can only be read moves."""
import os
import tempfile


def both_write(what, file):
    file.write(b"parent ")
    file.flush()
    if os.fork() == 0:
        file.write(b"child ")
        file.flush()
        os._exit(0)
    os.wait()
    file.write(b"parent again")
    file.flush()
    file.seek(0)
    print(what, file.read(), flush=True)
    file.close()


both_write("temporary", tempfile.TemporaryFile())
both_write("memfd", os.fdopen(os.memfd_create("memory"), "w+b"))

with tempfile.TemporaryFile() as file:
    file.write(b"to be read")
    file.flush()
    reading = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY)
if os.fork() == 0:
    os.write(1, os.read(reading, 100) + b"\n")
    os._exit(0)
os.wait()

# Standard error of a child, which prints into it.
kept = os.dup(2)
with tempfile.TemporaryFile() as file:
    os.dup2(file.fileno(), 2)
os.write(2, b"parent ")
if os.fork() == 0:
    os.write(2, b"child ")
    os._exit(0)
os.wait()
os.write(2, b"parent again")
with open("/proc/self/fd/2", "rb") as printed:
    print(printed.read(), flush=True)
os.dup2(kept, 2)

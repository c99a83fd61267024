# forks: 4
"""What one process asked for and did not read, the next reader of the pipe finds in its place: here and at home."""
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)


def in_child(act):
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def refused(read):
    nowhere = ctypes.c_void_p(8)
    print("refused", libc.read(read, nowhere, 3), flush=True)


for by_child in True, False:
    read, write = os.pipe()
    os.write(write, b"in its ")
    os.write(write, b"old place")
    in_child(lambda: refused(read))
    os.write(write, b", and more")
    one = lambda: print(os.read(read, 1), flush=True)
    rest = lambda: print(os.read(read, 100), flush=True)
    for act in one, rest:
        in_child(act) if by_child else act()
    os.close(read)
    os.close(write)

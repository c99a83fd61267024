# forks: 1
"""Addresses that are not there, given to calls about inherited descriptors, are EFAULT to a child as at home."""
import ctypes
import errno
import os
import socket

libc = ctypes.CDLL(None, use_errno=True)
BAD = ctypes.c_void_p(8)


def check(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    print(name, "done" if result >= 0 else errno.errorcode[ctypes.get_errno()], flush=True)


read, write = os.pipe()
os.write(write, b"data")
ends = socket.socketpair()
near = ends[0].fileno()
event = os.eventfd(3)
child = os.fork()
if child == 0:
    for name in "readv", "preadv":
        check(name, read, BAD, 1, 0)
    for name in "write", "writev":
        check(name, write, BAD, 3)
    for name in "sendmsg", "recvmsg", "send", "sendmmsg":
        check(name, near, BAD, 1, 0)
    check("poll", BAD, 1, 0)
    check("ppoll", BAD, 1, None, None)
    check("select", 10, BAD, None, None, None)
    check("getsockname", near, BAD, BAD)
    check("getpeername", near, BAD, BAD)
    check("getsockopt", near, 1, 3, BAD, BAD)
    check("setsockopt", near, 1, 2, BAD, 4)
    check("ioctl", read, 0x541B, BAD)
    check("ioctl", read, 0x5421, BAD)
    check("fstat", read, BAD)
    check("write", event, BAD, 8)
    check("pipe", BAD)
    check("execve", BAD, None, None)
    check("execve", b"/bin/true", BAD, BAD)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

# forks: 12
"""A file that a remote child can only write is home's file in every respect: size, position, holes, times, locks."""
import fcntl
import os
import stat
import sys
import tempfile

here = tempfile.mkdtemp()
os.chdir(here)


def say(what, call):
    try:
        result = call()
    except OSError as error:
        result = os.strerror(error.errno)
    print(what, result)
    sys.stdout.flush()


def size(fd):
    return os.fstat(fd).st_size


def opened_again(path, flags, act):
    again = os.open(path, flags)
    try:
        return act(again)
    finally:
        os.close(again)


def opened_by_another(path, act):
    """In a process of its own, by its own descriptor; its exit status."""
    child = os.fork()
    if child == 0:
        try:
            act(os.open(path, os.O_WRONLY))
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def all_calls(fd):
    own = f"/proc/self/fd/{fd}"
    say("write", lambda: os.write(fd, b"hello world\n"))
    say("position", lambda: os.lseek(fd, 0, os.SEEK_CUR))
    say("flags", lambda: oct(fcntl.fcntl(fd, fcntl.F_GETFL)))
    say("read", lambda: os.read(fd, 5))
    say("pwrite", lambda: os.pwrite(fd, b"HE" * 500, 0))
    say("position", lambda: os.lseek(fd, 0, os.SEEK_CUR))
    say("truncate", lambda: os.ftruncate(fd, 5))
    say("size", lambda: size(fd))
    say("seek", lambda: os.lseek(fd, 2, os.SEEK_SET))
    say("write", lambda: os.write(fd, b"zz"))
    say("position", lambda: os.lseek(fd, 0, os.SEEK_CUR))
    say("fsync", lambda: os.fsync(fd))
    say("fdatasync", lambda: os.fdatasync(fd))
    say("allocate", lambda: os.posix_fallocate(fd, 0, 100))
    say("size", lambda: size(fd))
    say("advise", lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED))
    say("file system", lambda: os.fstatvfs(fd).f_blocks > 0)
    say("lock", lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
    say("lock elsewhere", lambda: opened_again("file", os.O_WRONLY, lambda other: fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)))
    say("unlock", lambda: fcntl.flock(fd, fcntl.LOCK_UN))
    say("record lock", lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 2))
    say("record lock of another", lambda: opened_by_another("file", lambda other: fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 3)))
    say("elsewhere in it", lambda: opened_by_another("file", lambda other: fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 50)))
    say("to read", lambda: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB))
    say("closes", lambda: os.close(os.dup(fd)))
    say("record lock of another", lambda: opened_by_another("file", lambda other: fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 3)))
    say("mode", lambda: os.fchmod(fd, 0o640))
    say("mode", lambda: oct(os.fstat(fd).st_mode))
    say("times", lambda: os.utime(fd, (1000, 2000)))
    say("times", lambda: (os.fstat(fd).st_atime, os.fstat(fd).st_mtime))
    say("name length", lambda: os.fpathconf(fd, "PC_NAME_MAX"))
    say("attribute", lambda: os.setxattr(fd, "user.word", b"value"))
    say("attribute", lambda: os.getxattr(fd, "user.word"))
    say("attributes", lambda: "user.word" in os.listxattr(fd))
    say("attribute", lambda: os.removexattr(fd, "user.word"))
    say("append", lambda: fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND))
    say("flags", lambda: oct(fcntl.fcntl(fd, fcntl.F_GETFL)))
    say("write", lambda: os.write(fd, b"appended"))
    say("position", lambda: os.lseek(fd, 0, os.SEEK_CUR))
    say("no append", lambda: fcntl.fcntl(fd, fcntl.F_SETFL, 0))
    say("parts", lambda: os.pwritev(fd, [b"a" * 300, b"b" * 500], 1000))
    say("behind", lambda: os.pwritev(fd, [b"tail"], 10, os.RWF_APPEND))
    say("hole", lambda: os.lseek(fd, -1, os.SEEK_SET))
    say("by name", lambda: opened_again(own, os.O_WRONLY, lambda again: (os.write(again, b"START"), os.lseek(again, 0, 1))))
    say("to read", lambda: opened_again(own, os.O_RDONLY, lambda again: os.pread(again, 8, 0)))
    with os.fdopen(os.dup(fd), "w") as stream:
        say("stream position", stream.tell)
        say("stream seek", lambda: stream.seek(3))
        stream.write("sought")
        say("stream truncate", stream.truncate)
    say("size", lambda: size(fd))


for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC):
    with open("file", "w", encoding="ascii") as file:
        file.write("what was there before, and is longer\n")
    os.chmod("file", 0o600)
    fd = os.open("file", flags)
    child = os.fork()
    if child == 0:
        all_calls(fd)
        os._exit(0)
    print("status", os.waitpid(child, 0)[1])
    print("position", os.lseek(fd, 0, os.SEEK_CUR), "flags", oct(fcntl.fcntl(fd, fcntl.F_GETFL)))
    print(stat.filemode(os.fstat(fd).st_mode), size(fd), open("file", "rb").read())
    sys.stdout.flush()
    os.close(fd)
os.unlink("file")
os.rmdir(here)

# Addresses that are not there and flags that nobody knows: refused as by the kernel, and nobody ends of them.
umask 022
exec python3 - <<'PY'
import ctypes, errno, os

libc = ctypes.CDLL(None, use_errno=True)
HERE, BAD, LESS = -100, ctypes.c_void_p(8), ctypes.c_long(-1)
with open("file", "w") as file:
    file.write("hello")
os.mkdir("dir")
os.symlink("file", "link")
fd, directory = os.open("file", os.O_RDWR), os.open("dir", os.O_RDONLY)

def check(name, *arguments):
    """In a child, which may not survive it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        ctypes.set_errno(0)
        result = getattr(libc, name)(*arguments)
        os.write(write, f"{'there' if result >= 0 else errno.errorcode[ctypes.get_errno()]}".encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    shown = ["BAD" if argument is BAD else argument for argument in arguments]
    print(name, shown, said, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)

for path in (BAD, None):
    for name in ("unlink", "rmdir", "chdir"):
        check(name, path)
    for name in ("open", "creat", "access", "eaccess", "mkdir", "chmod", "truncate", "stat", "lstat", "statfs", "statvfs",
                 "utimes", "lutimes", "utime", "mkfifo", "pathconf"):
        check(name, path, None)
    for name in ("symlink", "link", "rename"):
        check(name, path, b"other")
        check(name, b"file", path)
    for name in ("openat", "unlinkat", "mkdirat", "utimensat", "futimesat"):
        check(name, HERE, path, None, 0)
    for name in ("faccessat", "fchmodat", "fstatat"):
        check(name, HERE, path, None, 0)
    check("utimensat", fd, path, None, 0)
    check("futimesat", fd, path, None)
    check("readlinkat", HERE, path, b"room", 4)
    check("renameat2", HERE, path, HERE, b"other", 0)
    check("fchownat", HERE, path, -1, -1, 0)
    check("statx", HERE, path, 0, 0x7ff, BAD)
for name in ("stat", "lstat", "statfs"):
    check(name, b"file", BAD)
for name in ("fstat", "fstatfs", "futimens"):
    check(name, fd, BAD)
check("fstat", directory, BAD)
check("fstatat", HERE, b"file", BAD, 0)
check("statx", HERE, b"file", 0, 0x7ff, BAD)
check("utimensat", HERE, b"file", BAD, 0)
check("readlink", b"link", BAD, 10)
for name in ("read", "write", "readv", "writev"):
    check(name, fd, BAD, 5)
for name in ("pread", "pwrite", "preadv", "pwritev"):
    check(name, fd, BAD, 5, 0)
    check(name, fd, BAD, 5, LESS)
check("preadv2", fd, BAD, 5, 0, 0)
for command in (5, 6, 7, 36, 37):
    check("fcntl", fd, command, BAD)
check("sendfile", 1, fd, BAD, 5)
check("copy_file_range", fd, BAD, fd, BAD, 5, 0)
check("getdents64", directory, BAD, 1000)
os.chdir("dir")
for number, arguments in [(0, (fd, BAD, 5)), (4, (b"../file", BAD)), (79, (BAD, 100)), (89, (b"../link", BAD, 9)), (217, (directory, BAD, 1000)),
                          (280, (fd, None, BAD, 0)), (280, (HERE, None, None, 0))]:
    check("syscall", number, *arguments)
os.chdir("..")

check("unlinkat", HERE, b"dir", 0x999)
check("fstatat", HERE, b"file", BAD, 0x99999)
check("fchmodat", HERE, b"link", 0o600, 0x100)
check("fchmodat", HERE, b"file", 0o600, 0x100)
check("fchmodat", HERE, b"file", 0o600, 0x999)
check("faccessat", HERE, b"file", 99, 0)
check("faccessat", HERE, b"file", 0, 0x999)
check("access", b"file", -1)
check("linkat", HERE, b"file", HERE, b"other", 99)
check("renameat2", HERE, b"file", HERE, b"other", 99)
check("statx", HERE, b"file", 0x6000, 1, BAD)
check("truncate", b"file", LESS)
check("ftruncate", fd, LESS)
check("lseek", fd, 0, 77)
check("flock", fd, 99)
check("fcntl", fd, 999, 0)
check("open", b"file/", 0)
check("open", b"", 0)
check("openat", fd, b"other", 0)
check("openat", 999, b"other", 0)
print(sorted(os.listdir(".")), oct(os.stat("file").st_mode), os.stat("file").st_size)
PY

# Extended attributes, files without a name, FIFOs, and what another user may do.
umask 022
exec python3 - <<'PY'
import ctypes, errno, os, stat

def code(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]

with open("file", "w") as file:
    file.write("text")
os.setxattr("file", "user.a", b"\0any bytes\xff")
with open("file", "r+") as file:
    os.setxattr(file.fileno(), "user.b", b"", os.XATTR_CREATE)
    print(sorted(os.listxattr(file.fileno())), os.getxattr("file", "user.a"), code(os.getxattr, "file", "user.none"))
    print(code(os.setxattr, file.fileno(), "user.b", b"", os.XATTR_CREATE), code(os.setxattr, "file", "user.c", b"", os.XATTR_REPLACE))
    os.removexattr(file.fileno(), "user.b")
print(os.listxattr("file"), code(os.setxattr, "file", "user.x", bytes(70000)), code(os.setxattr, "none", "user.x", b""))
libc = ctypes.CDLL(None, use_errno=True)
nowhere = ctypes.c_void_p(8)
for call, arguments in [(libc.setxattr, (b"file", None, b"v", 1, 0)), (libc.setxattr, (b"file", b"user.y", nowhere, 1, 0)),
                        (libc.getxattr, (b"file", None, None, 0)), (libc.getxattr, (b"file", b"user.a", nowhere, 99)),
                        (libc.listxattr, (b"file", nowhere, 999)), (libc.removexattr, (b"file", nowhere))]:
    print(call.__name__, call(*arguments), errno.errorcode[ctypes.get_errno()])
os.mkdir("dir")
os.setxattr("dir", "user.d", b"of a directory")
with os.scandir("dir"):
    directory = os.open("dir", os.O_RDONLY)
    print(os.getxattr(directory, "user.d"), os.fstatvfs(directory).f_namemax, code(os.statvfs, "none"))

nameless = os.open("dir", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(nameless, b"content")
print(os.listdir("dir"))
root = os.open("/", os.O_RDONLY)
link = lambda name: code(os.link, f"/proc/self/fd/{nameless}", name, src_dir_fd=root, follow_symlinks=True)
print(link("file"), link("dir/named"), os.listdir("dir"), oct(os.stat("dir/named").st_mode))
print(open("dir/named").read(), code(os.link, "none", "x"), code(os.link, "file", "dir"))

os.mkfifo("fifo", 0o620)
os.mknod("empty", 0o604)
print(stat.filemode(os.stat("fifo").st_mode), stat.filemode(os.stat("empty").st_mode), code(os.mkfifo, "fifo"))
child = os.fork()
if child == 0:
    with open("fifo", "w") as fifo:
        fifo.write("through the FIFO")
    os._exit(0)
print(open("fifo").read(), os.waitpid(child, 0)[1])

if os.geteuid() == 0:
    os.chmod("dir", 0o700)
    os.chmod("file", 0o4666)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    open("sticky/roots", "w").close()
    child = os.fork()
    if child == 0:
        os.chdir(".")
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        print(code(os.stat, "dir/named"), code(os.chmod, "file", 0o777), code(os.utime, "file", (1, 1)), code(os.mkdir, "new"),
              code(os.unlink, "sticky/roots"), os.access("file", os.W_OK), os.access("empty", os.W_OK))
        with open("sticky/mine", "w") as mine:
            mine.write("x")
        with open("file", "r+") as file:
            file.write("TEXT")
        print(os.stat("sticky/mine").st_uid, oct(os.stat("file").st_mode), flush=True)
        os._exit(0)
    print(os.waitpid(child, 0)[1])
PY

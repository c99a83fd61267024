# What the calls promise beside the usual: inodes, devices, pointers to nothing, limits, events, and calls by number.
umask 022
exec python3 - <<'PY'
import ctypes, errno, os, select, stat, struct, sys, time

libc = ctypes.CDLL(None, use_errno=True)
def code(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]
def c(name, *arguments):
    result = getattr(libc, name)(*arguments)
    return result if result != -1 else errno.errorcode[ctypes.get_errno()]

# A name goes, the file stays what it is.
with open("log", "w") as log:
    log.write("old")
    log.flush()
    before = os.stat("log")
    os.rename("log", "log.1")
    open("log", "w").close()
    print(os.stat("log.1").st_ino == before.st_ino == os.fstat(log.fileno()).st_ino, os.path.samefile("log", "log.1"))
    os.unlink("log.1")
    open("log.1", "w").close()
    print(os.fstat(log.fileno()).st_nlink, os.path.samestat(os.fstat(log.fileno()), os.stat("log.1")))
os.mkdir("dir")
number = os.stat("dir").st_ino
os.rename("dir", "renamed")
print(os.stat("renamed").st_ino == number)

# Who opens a file to read may make it.
os.close(os.open("made", os.O_RDONLY | os.O_CREAT, 0o640))
print(stat.filemode(os.stat("made").st_mode))
with open("made", "w") as made:
    made.write("text")
os.close(os.open("made", os.O_RDONLY | os.O_TRUNC))
print(os.stat("made").st_size)
os.unlink("made")

# Devices, which only root makes.
if os.geteuid() == 0:
    os.mknod("device", stat.S_IFCHR | 0o620, os.makedev(1, 250))
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 300))
    for name in ("device", "disk"):
        status = os.stat(name)
        print(stat.filemode(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev), status.st_size, code(os.truncate, name, 0),
              code(os.stat, name + "/x"), code(os.mkdir, name))
    print(sorted((entry.name, entry.is_file()) for entry in os.scandir(".") if entry.name.startswith("d")))
    os.mkdir("open", 0o777)
    os.chmod("open", 0o777)
    os.mkfifo("open/fifo")
    os.chmod("open/fifo", 0o666)
    if os.fork() == 0:
        os.setgid(65534)
        os.setuid(65534)
        print(code(os.mknod, "open/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)), code(os.mkfifo, "open/mine"), flush=True)
        fifo = os.open("open/fifo", os.O_WRONLY)
        os.write(fifo, b"by another user")
        os._exit(0)
    with open("open/fifo") as fifo:
        print(fifo.read(), os.wait()[1])

# Pointers to nothing.
nothing, here, absolute = ctypes.c_void_p(0xdeadc0de), b"x", os.path.abspath("log").encode()
for call in (("open", nothing, 0), ("mkdir", nothing, 0o755), ("unlink", nothing), ("rmdir", nothing), ("chmod", nothing, 0o644), ("access", nothing, 0),
             ("rename", nothing, here), ("rename", here, nothing), ("link", nothing, here), ("link", here, nothing), ("symlink", nothing, here),
             ("symlink", here, nothing), ("readlink", nothing, None, 0), ("truncate", nothing, ctypes.c_long(0)), ("chdir", nothing), ("mkfifo", nothing, 0o600),
             ("chown", nothing, -1, -1), ("stat", nothing, None), ("stat", absolute, nothing), ("lstat", b"log", nothing), ("utimensat", -100, nothing, None, 0),
             ("statx", -100, b"log", 0, 0x7ff, nothing), ("getxattr", b"log", nothing, None, 0), ("open", ctypes.c_void_p(1), 0)):
    print(call[0], c(*call))

# Limits.
print(os.pathconf(".", "PC_NAME_MAX"), os.pathconf(os.path.abspath("log"), "PC_NAME_MAX"), os.pathconf("/", "PC_NAME_MAX"), code(os.pathconf, "none", "PC_NAME_MAX"),
      os.pathconf(".", "PC_PIPE_BUF"), code(os.stat, "x" * 256), code(os.mkdir, "y/" * 3000), code(os.stat, "./" * 1900 + "log").st_mode & 0o777)
def longest():
    directory = os.open(".", os.O_RDONLY)
    return os.pathconf(".", "PC_PATH_MAX") > 0, os.fpathconf(directory, "PC_PATH_MAX") == os.pathconf(".", "PC_PATH_MAX")
print(longest())

# Walks by fts.
class Entry(ctypes.Structure):
    pass
Entry._fields_ = [("cycle", ctypes.POINTER(Entry)), ("parent", ctypes.POINTER(Entry)), ("link", ctypes.POINTER(Entry)), ("number", ctypes.c_long),
                  ("pointer", ctypes.c_void_p), ("accpath", ctypes.c_char_p), ("path", ctypes.c_char_p), ("errno", ctypes.c_int), ("symfd", ctypes.c_int),
                  ("pathlen", ctypes.c_ushort), ("namelen", ctypes.c_ushort), ("ino", ctypes.c_ulong), ("dev", ctypes.c_ulong), ("nlink", ctypes.c_ulong),
                  ("level", ctypes.c_short), ("info", ctypes.c_ushort), ("flags", ctypes.c_ushort), ("instr", ctypes.c_ushort), ("statp", ctypes.c_void_p)]
def name_of(entry):
    return ctypes.string_at(ctypes.addressof(entry.contents) + Entry.statp.offset + 8).decode()
ORDER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.POINTER(Entry)), ctypes.POINTER(ctypes.POINTER(Entry)))
by_name = ORDER(lambda a, b: (name_of(a[0]) > name_of(b[0])) - (name_of(a[0]) < name_of(b[0])))
for name in ("fts_open", "fts_read", "fts_children"):
    getattr(libc, name).restype = ctypes.c_void_p if name == "fts_open" else ctypes.POINTER(Entry)
COMFOLLOW, LOGICAL, NOCHDIR, NOSTAT, PHYSICAL, SEEDOT, NAMEONLY = 1, 2, 4, 8, 16, 32, 256
os.makedirs("tree/b/c")
os.makedirs("tree/skipped/below")
os.makedirs("tree/empty")
for name in ("tree/one", "tree/b/two", "tree/b/c/three"):
    with open(name, "w") as file:
        file.write(name)
os.symlink("b", "tree/to-b")
os.symlink("nowhere", "tree/dangling")
os.symlink("..", "tree/b/up")
def walk(roots, options, children=0):
    paths = (ctypes.c_char_p * (len(roots) + 1))(*[root.encode() for root in roots], None)
    walked = libc.fts_open(paths, options, by_name)
    if not walked:
        return print(errno.errorcode[ctypes.get_errno()])
    walked = ctypes.c_void_p(walked)
    if children:
        entry, names = libc.fts_children(walked, 0), []
        while entry:
            names.append(name_of(entry))
            entry = entry.contents.link
        print(names)
    while entry := libc.fts_read(walked):
        e = entry.contents
        print(e.info, e.level, e.path.decode(), name_of(entry), e.pathlen, errno.errorcode.get(e.errno, 0), code(os.lstat, e.accpath) == "ENOENT", end=" ")
        print(stat.filemode(struct.unpack_from("24xI", ctypes.string_at(e.statp, 144))[0]) if e.info not in (10, 11) and not options & NOSTAT else "")
        if name_of(entry) == "skipped" and e.info == 1:
            libc.fts_set(walked, entry, 4)
        if name_of(entry) == "dangling" and e.info == 12:
            libc.fts_set(walked, entry, 2)
        if name_of(entry) == "to-b" and e.info == 12 and children:
            libc.fts_set(walked, entry, 2)
        if children and e.info == 1:
            entry, names = libc.fts_children(walked, children), []
            while entry:
                names.append(name_of(entry))
                entry = entry.contents.link
            print(names)
    print(errno.errorcode.get(ctypes.get_errno(), 0) if options & 0xf000 else "end", libc.fts_close(walked))
walk(["tree"], PHYSICAL | NOCHDIR)
walk(["tree/", "log", "none"], LOGICAL)
walk(["tree/b", "tree/to-b"], PHYSICAL | COMFOLLOW | NOCHDIR | SEEDOT, NAMEONLY)
walk(["tree"], PHYSICAL | NOCHDIR, 0)
walk(["."], PHYSICAL | NOCHDIR | NOSTAT)
walk([""], PHYSICAL)
walk(["tree"], 0x10000)

# Events.
libc.inotify_add_watch.argtypes = ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32
ATTRIB, CLOSE_WRITE, FROM, TO, CREATE, DELETE, DELETE_SELF, MODIFY = 4, 8, 0x40, 0x80, 0x100, 0x200, 0x400, 2
watch = libc.inotify_init()
os.mkdir("watched")
open("watched/before", "w").close()
directory = libc.inotify_add_watch(watch, os.path.abspath("watched").encode(), CLOSE_WRITE | FROM | TO | CREATE | DELETE | ATTRIB)
one = libc.inotify_add_watch(watch, b"watched/before", DELETE_SELF | MODIFY)
print(directory, one, c("inotify_add_watch", watch, b"none", MODIFY), c("inotify_add_watch", watch, b"log", MODIFY | 0x01000000))
with open("watched/file", "w") as file:
    file.write("text")
os.mkdir("watched/dir")
os.rename("watched/file", "watched/moved")
os.chmod("watched/moved", 0o600)
with open("watched/before", "a") as file:
    file.write("more")
os.unlink("watched/before")
os.rmdir("watched/dir")
seen = []
while select.select([watch], [], [], 0)[0]:
    data = os.read(watch, 65536)
    while data:
        number, mask, _, size = struct.unpack_from("iIII", data)
        seen.append((number, hex(mask), data[16:16 + size].rstrip(b"\0").decode()))
        data = data[16 + size:]
print(*[event for i, event in enumerate(seen) if event not in seen[:i]], sep="\n")

# A link on the local disk that leads here.
outside = os.path.join(os.environ["HOME"], "outside")
os.mkdir(outside)
os.symlink(os.path.abspath("tree"), outside + "/link")
def statx(path, room=ctypes.create_string_buffer(256)):
    return c("statx", -100, path.encode(), 0, 0x7ff, room)
libc.realpath.restype = ctypes.c_char_p
print(sorted(os.listdir(outside + "/link")), open(outside + "/link/one").read(), statx(outside + "/link/one"), statx(outside + "/link/none"),
      libc.realpath((outside + "/link/b").encode(), None).decode() == os.path.abspath("tree/b"), libc.realpath((outside + "/link/none").encode(), None))
os.unlink(outside + "/link")
os.rmdir(outside)

# Calls by number.
if os.uname().machine == "x86_64":
    libc.syscall.restype = ctypes.c_long
    def by_number(number, *arguments):
        return c("syscall", ctypes.c_long(number), *arguments)
    fd = by_number(257, -100, absolute, os.O_RDWR | os.O_CREAT, 0o600)
    buffer = ctypes.create_string_buffer(100)
    print(by_number(1, fd, b"by number", 9), by_number(8, fd, 3, 0), by_number(0, fd, buffer, 100), buffer.value, by_number(77, fd, 5), by_number(3, fd))
    with open("copied", "wb") as file:
        file.write(b"0123456789")
    fd = by_number(2, b"copied", os.O_RDWR)
    print(by_number(326, fd, ctypes.byref(ctypes.c_long(0)), fd, ctypes.byref(ctypes.c_long(5)), ctypes.c_long(3), 0), by_number(73, fd, 2), by_number(3, fd),
          open("copied").read())
    print(open("log").read(), by_number(21, absolute, os.R_OK), by_number(21, os.path.abspath("none").encode(), 0), by_number(88, b"target", b"link"),
          by_number(89, b"link", buffer, 100), buffer.value[:6], by_number(83, b"numbered", 0o700), by_number(82, b"numbered", b"renumbered"),
          by_number(84, b"renumbered"), by_number(87, b"link"), by_number(79, buffer, 100) == len(os.getcwd()) + 1, buffer.value.decode() == os.getcwd())
    times = (ctypes.c_long * 4)(1000, 2000, 3000, 4000)
    for number, *arguments in (132, absolute), (235, b"copied"), (261, -100, absolute):
        print(by_number(number, *arguments, times), os.stat(arguments[-1]).st_mtime_ns)
    fd = by_number(2, b"copied", os.O_RDWR)
    memory = by_number(9, None, ctypes.c_long(8), 3, 1, fd, ctypes.c_long(0))
    ctypes.memset(memory, 0x6d, 4)
    with open("script", "w") as file:
        file.write("#!/bin/sh\necho $0 $1 $NAME\n")
    os.chmod("script", 0o755)
    words = (ctypes.c_char_p * 3)(b"script", b"word", None)
    names = (ctypes.c_char_p * 2)(b"NAME=value", None)
    sys.stdout.flush()
    for number, *arguments in (59, b"./script", words, names), (322, -100, os.path.abspath("script").encode(), words, names, 0):
        if os.fork() == 0:
            by_number(number, *arguments)
            os._exit(1)
        print(os.wait()[1], flush=True)
    print(by_number(26, ctypes.c_long(memory), ctypes.c_long(8), 4), by_number(11, ctypes.c_long(memory), ctypes.c_long(8)), by_number(3, fd), open("copied").read())
PY

# What libc does without calling itself by name: walks, spawned children's files, sockets; and ".." behind links.
umask 022
exec python3 - <<'PY'
import ctypes, errno, os, socket, sys

def code(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]

os.makedirs("a/b/c")
os.mkdir("other")
for name in ("a/one", "a/b/two", "a/b/c/three", "other/four"):
    with open(name, "w") as file:
        file.write(name)
os.symlink("../other", "a/link")
os.symlink("nowhere", "a/dangling")

libc = ctypes.CDLL(None, use_errno=True)
VISIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_int * 2))
PHYS, MOUNT, CHDIR, DEPTH = 1, 2, 4, 8
def walk(path, flags, function="nftw"):
    found = []
    def visit(name, status, kind, place):
        here = code(os.stat, name[place[0][0]:] if flags & CHDIR else name, follow_symlinks=False) if function == "nftw" else None
        found.append((name.decode(), kind, tuple(place[0]) if function == "nftw" else None, getattr(here, "st_size", here) if kind == 0 else 0))
        return 0
    result = getattr(libc, function)(path.encode(), VISIT(visit), 10, flags)
    print(result, errno.errorcode.get(ctypes.get_errno()) if result else "", sorted(found, key=str))
    return [name for name, *_ in found]
walk("a", PHYS)
walk("a", 0)
walk("a/", PHYS | CHDIR | MOUNT)
order = walk("a", PHYS | DEPTH)
print(order[-1], order.index("a/b/c/three") < order.index("a/b/c") < order.index("a/b"))
walk("none", PHYS)
walk(os.path.abspath("other"), 0, "ftw")
print(os.path.basename(os.getcwd()))

for path in ("a/link/../a/one", "a/b/../one", "a/link/..", "a/none/../one", "a/one/../b", "a/b/c/../../one", "a/link/../../x", "./a/./one", "a/b/..",
             "a/dangling/..", "a/one/."):
    status = code(os.stat, path)
    print(path, getattr(status, "st_size", status) if not isinstance(status, str) and not os.path.isdir(path) else "directory" if not isinstance(status, str) else status)
print(code(os.rmdir, "a/b/."), code(os.rmdir, "a/b/.."), code(os.mkdir, "a/b/."), code(os.unlink, "a/link/four"), code(open, "a/link/../new", "w").close())
print(sorted(os.listdir(".")), os.path.realpath("a/link/..") == os.getcwd())

def spawn(actions, *command):
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", *command], os.environ, file_actions=actions)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
spawn([(os.POSIX_SPAWN_OPEN, 0, "a/one", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.path.abspath("spawned"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640),
       (os.POSIX_SPAWN_DUP2, 1, 2)], "cat; echo error >&2")
print(open("spawned").read(), oct(os.stat("spawned").st_mode))
print(code(os.posix_spawn, "/bin/true", ["true"], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "a/none", os.O_RDONLY, 0)]))

server = socket.socket(socket.AF_UNIX)
server.bind("a/socket")
print(code(socket.socket(socket.AF_UNIX).bind, "a/socket"), oct(os.stat("a/socket").st_mode), code(open, "a/socket"))
server.listen()
client = socket.socket(socket.AF_UNIX)
print(code(client.connect, "a/socket"))
client.send(b"hello")
print(server.accept()[0].recv(5), code(socket.socket(socket.AF_UNIX).connect, "a/one"), code(socket.socket(socket.AF_UNIX).connect, "a/none"))
os.unlink("a/socket")
print(code(socket.socket(socket.AF_UNIX).connect, "a/socket"))

# A name on the local disk that was looked for in vain again and again is found when a link leads here.
local = os.environ["HOME"] + "/searched"
os.mkdir(local)
with open("a/found", "w") as file:
    file.write("found")
def look():
    def read():
        with open(local + "/in/found") as file:
            return file.read()
    return code(os.stat, local + "/in/found") == "ENOENT", code(os.access, local + "/in/found", os.R_OK), code(read)
print([look() for _ in range(4)])
os.symlink(os.getcwd() + "/a", local + "/in")
print(look())
os.unlink(local + "/in")
print(look(), code(os.mkdir, local + "/in"), code(os.mkdir, local + "/none/in"), look())
with open(local + "/in/found", "w") as file:
    file.write("local")
print(look())
os.unlink(local + "/in/found")
os.rmdir(local + "/in")
os.rmdir(local)
PY

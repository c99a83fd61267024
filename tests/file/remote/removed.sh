# Files that are open on one host while another one removes, replaces or renames them live on, or follow their names.
exec python3 - <<'PY'
import hashlib, os

SIZE = 3 << 20
def fill(name, byte):
    with open(name, "wb") as file:
        file.write(byte * SIZE)

for name, byte in (("unlinked", b"u"), ("replaced", b"r"), ("new", b"n"), ("renamed", b"m"), ("late", b"l")):
    fill(name, byte)
os.mkdir("dir")
fill("dir/inside", b"d")
os.symlink("dir", "link")
fill("dir/by link", b"k")
NAMES = ["unlinked", "replaced", "renamed", "dir/inside", "link/by link"]

def hold(say, hear):
    files = [os.open(name, os.O_RDWR) for name in NAMES]
    readers = [os.open(name, os.O_RDONLY) for name in NAMES]
    created = os.open("dir/created", os.O_CREAT | os.O_RDWR, 0o600)
    lines = []
    for file in files + readers:
        lines.append(os.read(file, 3))
    os.write(say, b".")
    os.read(hear, 1)
    for file in files:
        os.pwrite(file, b"changed", 1000)
        os.write(created, b"more ")
        lines.append((os.fstat(file).st_nlink, os.fstat(file).st_size))
    for file, reader in zip(files, readers):
        content = os.pread(file, SIZE, 0)
        lines.append((len(content), hashlib.md5(content).hexdigest(), set(os.pread(reader, SIZE, 0)[2000:])))
        os.fsync(file)
        os.close(file)
    os.close(created)
    return lines

def remove():
    os.unlink("unlinked")
    os.rename("new", "replaced")
    os.rename("renamed", "after")
    os.unlink("link/by link")
    os.rename("dir", "moved")

def child(run):
    pid = os.fork()
    if pid == 0:
        os._exit(run() or 0)
    return pid

# Who holds is at home, or elsewhere; who removes is elsewhere, on another host than the first.
say, hear, answer = os.pipe(), os.pipe(), os.pipe()
def elsewhere():
    lines = hold(say[1], hear[0])
    os.write(answer[1], repr(lines).encode())
holder = child(elsewhere)
os.read(say[0], 1)
home = os.open("late", os.O_RDONLY)
print(os.read(home, 2))
def removing():
    remove()
    os.unlink("late")
print(os.waitpid(child(removing), 0)[1])
print(len(os.read(home, SIZE)), os.fstat(home).st_nlink)
os.close(home)
os.write(hear[1], b".")
text = b""
while not text.endswith(b"]"):
    text += os.read(answer[0], 65536)
print(text.decode())
print(os.waitpid(holder, 0)[1])
print(sorted(os.listdir(".")), sorted(os.listdir("moved")), open("moved/created").read(), os.path.lexists("link"))

# Home removes what another host has open.
fill("unlinked", b"U")
holder = child(lambda: (lambda file: (os.read(file, 1), os.write(say[1], b"."), os.read(hear[0], 1), len(os.read(file, SIZE)) + 1 != SIZE)[-1])(
    os.open("unlinked", os.O_RDONLY)))
os.read(say[0], 1)
os.unlink("unlinked")
os.write(hear[1], b".")
print(os.waitpid(holder, 0)[1])
PY

# Memory of one file, mapped on two hosts under locks: it is shared, or it cannot be mapped.
exec /usr/bin/python3 - <<'PY'
import errno, fcntl, mmap, os
def opened():
    file = open("m", "r+b")
    fcntl.lockf(file, fcntl.LOCK_SH)
    return file
with open("m", "wb") as file: file.write(bytes(4096))
to_child, from_parent = os.pipe()
to_parent, from_child = os.pipe()
child = os.fork()
if child == 0:
    os.read(to_child, 1)
    file, seen = opened(), b"AB"
    try:
        with mmap.mmap(file.fileno(), 4096) as memory:
            seen = memory[:1]
            os.write(from_child, b"x"); os.read(to_child, 1)
            seen += memory[:1]
    except OSError as error:
        if error.errno != errno.ENODEV: seen = str(error).encode()
        os.write(from_child, b"x"); os.read(to_child, 1)
    os.write(from_child, seen)
    os._exit(0)
file = opened()
memory = mmap.mmap(file.fileno(), 4096)
memory[:1] = b"A"; os.write(from_parent, b"x"); os.read(to_parent, 1)
memory[:1] = b"B"; os.write(from_parent, b"x")
print(os.read(to_parent, 100), os.waitpid(child, 0)[1])
PY

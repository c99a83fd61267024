# Memory of one file, mapped on several hosts. Under locks it is one host's at a time: it is shared, or it cannot be
# mapped or locked. Without, every byte is that of the process that changed it.
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
    seen = b"AB"
    try:
        file = opened()
        with mmap.mmap(file.fileno(), 4096) as memory:
            seen = memory[:1]
            os.write(from_child, b"x"); os.read(to_child, 1)
            seen += memory[:1]
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOLCK): seen = str(error).encode()
        os.write(from_child, b"x"); os.read(to_child, 1)
    os.write(from_child, seen)
    os._exit(0)
file = opened()
memory = mmap.mmap(file.fileno(), 4096)
memory[:1] = b"A"; os.write(from_parent, b"x"); os.read(to_parent, 1)
memory[:1] = b"B"; os.write(from_parent, b"x")
print(os.read(to_parent, 100), os.waitpid(child, 0)[1])
memory.close()

# As numpy.memmap in a pool: each has its own columns of every row.
ROWS, WRITERS = 2000, 4
with open("table", "wb") as file: file.truncate(ROWS * WRITERS)
ready, go = os.pipe()
for writer in range(WRITERS):
    if os.fork() == 0:
        os.close(go)
        with open("table", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
            os.read(ready, 1)
            for value in (b"a", b"b"):
                for row in range(ROWS): memory[row * WRITERS + writer] = value[0] + writer
                memory.flush()
        os._exit(0)
os.close(go)
print([os.wait()[1] for _ in range(WRITERS)])
with open("table", "rb") as file: print(file.read() == b"bcde" * ROWS)
PY

# Children on other hosts inherit open files: one offset, one content, whoever writes.
exec python3 - <<'PY'
import os, stat

def child(run):
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    print(os.waitpid(pid, 0)[1], flush=True)

with open("input", "w") as file:
    file.writelines(f"line {i}\n" for i in range(2000))
os.mkdir("dir")
open("dir/name", "w").close()

source = os.open("input", os.O_RDONLY)
print(os.read(source, 7))
child(lambda: print(os.read(source, 7), os.fstat(source).st_size, flush=True))
print(os.read(source, 7), os.lseek(source, 0, os.SEEK_CUR))

output = os.open("output", os.O_WRONLY | os.O_CREAT, 0o640)
os.write(output, b"parent ")
child(lambda: os.write(output, b"child "))
child(lambda: (os.write(output, b"another "), os.lseek(output, 1, os.SEEK_SET), os.write(output, b"AR")))
os.write(output, b"E")
print(open("output").read(), oct(os.fstat(output).st_mode), os.fstat(output).st_size)

def change():
    status = os.fstat(output)
    print(oct(status.st_mode), status.st_size, status.st_ino == os.stat("output").st_ino)
    os.ftruncate(output, 10)
    os.pwrite(output, b"CH", 7)
    os.fchmod(output, 0o600)
    os.setxattr(output, "user.a", b"value")
    print(os.getxattr(output, "user.a"), os.listxattr(output), os.fstat(output).st_size, flush=True)
    os.fsync(output)
    print(open("output").read(), flush=True)
child(change)
print(open("output").read(), oct(os.stat("output").st_mode), os.getxattr("output", "user.a"))
os.close(output)

log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
for i in range(3):
    os.write(log, b"parent %d\n" % i)
    child(lambda: os.write(log, b"child %d\n" % i))
print(open("log").read())
os.close(log)

directory = os.open("dir", os.O_RDONLY)
def use():
    print(os.listdir(directory), os.stat("name", dir_fd=directory).st_size)
    os.close(os.open("of the child", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=directory))
    os.fchdir(directory)
    print(os.getcwd() == os.path.abspath("."), sorted(os.listdir(".")), flush=True)
child(use)
print(sorted(os.listdir(directory)))

both = os.open("both", os.O_RDWR | os.O_CREAT, 0o644)
os.write(both, b"0123456789" * 1000)
os.lseek(both, 5, os.SEEK_SET)
def exchange():
    print(os.read(both, 4))
    os.write(both, b"CHILD")
    os.pwrite(both, b"end", 10000)
child(exchange)
print(os.lseek(both, 0, os.SEEK_CUR), os.read(both, 3), os.fstat(both).st_size, os.pread(both, 20, 0))
child(lambda: os.ftruncate(both, 20))
print(os.lseek(both, 0, os.SEEK_END))
os.write(both, b"parent again")
child(lambda: print(os.pread(both, 100, 0), flush=True))
os.lseek(both, 0, os.SEEK_END)
child(lambda: os.write(both, b" child"))
os.write(both, b" parent")
with open("both", "r+") as file:
    child(lambda: print(file.read(), file.write("by stdio"), file.flush(), flush=True))
    file.seek(0)
    print(file.read())

# The parent closes first: what the child writes is in the store when it has ended.
pid = os.fork()
late = os.open("late", os.O_WRONLY | os.O_CREAT, 0o644) if pid else -1
if pid:
    reader, writer = os.pipe()
    second = os.fork()
    if second == 0:
        os.read(reader, 1)
        os.write(late, b"written late\n")
        os._exit(0)
    os.close(late)
    os.write(writer, b"x")
    os.waitpid(second, 0)
    print(open("late").read(), os.waitpid(pid, 0)[1])
else:
    os._exit(0)
PY

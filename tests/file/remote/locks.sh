# Locks hold between processes of all hosts, and who gets one sees what the one before has written.
exec python3 - <<'PY'
import errno, fcntl, os, signal, struct, sqlite3

OFD_GETLK, OFD_SETLK, OFD_SETLKW = 36, 37, 38
def record(kind, start, length, pid=0):
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, pid)
def get(fd, kind, start, length, command=fcntl.F_GETLK):
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, record(kind, start, length)))
def code(call, *arguments):
    try:
        call(*arguments)
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]
def child(run):
    pid = os.fork()
    if pid == 0:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    return pid
def wait(pid):
    return os.waitpid(pid, 0)[1]
def opened(flags=os.O_RDWR):
    return os.open("file", flags | os.O_CREAT, 0o644)

class Signal:
    def __init__(self):
        self.ends = os.pipe()
    def send(self):
        os.write(self.ends[1], b".")
    def await_(self):
        os.read(self.ends[0], 1)
go, come = Signal(), Signal()

mine = opened()
os.write(mine, b"0" * 100)
os.fsync(mine)
parent = os.getpid()

# What one has, another does not get, and is told of.
fcntl.lockf(mine, fcntl.LOCK_EX, 10, 5)
def look():
    fd = opened()
    print(code(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0), code(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0),
          code(fcntl.lockf, fd, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 20))
    kind, whence, start, length, pid = get(fd, fcntl.F_WRLCK, 0, 0)
    print(kind == fcntl.F_WRLCK, whence, start, length, pid == parent, get(fd, fcntl.F_WRLCK, 15, 0)[0] == fcntl.F_UNLCK)
    print(code(fcntl.fcntl, fd, OFD_SETLK, record(fcntl.F_RDLCK, 14, 1)), code(fcntl.fcntl, fd, OFD_SETLK, record(fcntl.F_RDLCK, 15, 1)), flush=True)
    print(code(fcntl.lockf, opened(os.O_WRONLY), fcntl.LOCK_SH), code(fcntl.lockf, opened(os.O_RDONLY), fcntl.LOCK_EX), flush=True)
print(wait(child(look)))

# Who waits gets it, and sees what was written before.
def after():
    fd = opened()
    come.send()
    fcntl.lockf(fd, fcntl.LOCK_EX, 0, 0)
    print(os.pread(fd, 20, 0), flush=True)
    os.pwrite(fd, b"child", 3)
    fcntl.lockf(fd, fcntl.LOCK_UN, 0, 0)
    come.send()
    go.await_()
    print(os.pread(fd, 20, 0), flush=True)
pid = child(after)
come.await_()
os.pwrite(mine, b"parent", 5)
fcntl.lockf(mine, fcntl.LOCK_UN, 0, 0)
come.await_()
fcntl.lockf(mine, fcntl.LOCK_EX, 0, 0)
print(os.pread(mine, 20, 0))
os.pwrite(mine, b"P", 0)
fcntl.lockf(mine, fcntl.LOCK_UN, 0, 0)
go.send()
print(wait(pid))

# Two that wait for each other: one of them is refused.
ready = [Signal(), Signal()]
outcome = os.pipe()
def cross(first):
    fd = opened()
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, first)
    ready[first].send()
    ready[1 - first].await_()
    os.write(outcome[1], (code(fcntl.lockf, fd, fcntl.LOCK_EX, 1, 1 - first) + "\n").encode())
pids = [child(lambda: cross(0)), child(lambda: cross(1))]
print([wait(pid) for pid in pids], sorted(os.read(outcome[0], 100).split()))

# A lock goes with any descriptor of the file, and with its holder.
def closes():
    one, two = opened(), opened()
    fcntl.lockf(one, fcntl.LOCK_EX)
    os.close(two)
    come.send()
    go.await_()
pid = child(closes)
come.await_()
print(code(fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.lockf(mine, fcntl.LOCK_UN)
go.send()
print(wait(pid))
for lock in (lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_EX),
             lambda fd: fcntl.fcntl(fd, OFD_SETLKW, record(fcntl.F_WRLCK, 0, 0))):
    def holds():
        fd = opened()
        lock(fd)
        os.pwrite(fd, b"killed", 50)
        come.send()
        signal.pause()
    pid = child(holds)
    come.await_()
    os.kill(pid, signal.SIGKILL)
    lock(mine)
    print(os.pread(mine, 6, 50), wait(pid))
    os.pwrite(mine, b"parent", 50)
    os.close(mine)
    mine = opened()

# flock belongs to the description.
fcntl.flock(mine, fcntl.LOCK_SH)
def shares():
    fd = opened()
    print(code(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB), code(fcntl.flock, fd, fcntl.LOCK_SH | fcntl.LOCK_NB), code(fcntl.lockf, fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
          flush=True)
    other = os.dup(fd)
    os.close(fd)
    come.send()
    go.await_()
pid = child(shares)
come.await_()
print(code(fcntl.flock, mine, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.flock(mine, fcntl.LOCK_SH)
go.send()
print(wait(pid), code(fcntl.flock, mine, fcntl.LOCK_EX | fcntl.LOCK_NB))
fcntl.flock(mine, fcntl.LOCK_UN)

kinds = (("lockf", lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX), lambda fd: fcntl.lockf(fd, fcntl.LOCK_UN)),
         ("flock", lambda fd: fcntl.flock(fd, fcntl.LOCK_EX), lambda fd: fcntl.flock(fd, fcntl.LOCK_UN)),
         ("ofd", lambda fd: fcntl.fcntl(fd, OFD_SETLKW, record(fcntl.F_WRLCK, 0, 8)), lambda fd: fcntl.fcntl(fd, OFD_SETLK, record(fcntl.F_UNLCK, 0, 8))))

# Who writes again what was there before is seen as well.
for name, lock, unlock in kinds:
    def turn(fd, content):
        lock(fd)
        seen = os.pread(fd, 8, 0)
        os.pwrite(fd, content, 0)
        unlock(fd)
        return seen
    def answers():
        fd = opened()
        for _ in range(3):
            go.await_()
            print(turn(fd, b"answered"), flush=True)
            come.send()
    os.pwrite(mine, b"00000000", 0)
    os.fsync(mine)
    pid = child(answers)
    for _ in range(3):
        print(name, turn(mine, b"question"), flush=True)
        go.send()
        come.await_()
    print(wait(pid))

# Nobody's count is lost.
for name, lock, unlock in kinds:
    os.pwrite(mine, b"00000000", 0)
    os.fsync(mine)
    def count():
        fd = opened()
        for _ in range(10):
            lock(fd)
            os.pwrite(fd, b"%08d" % (int(os.pread(fd, 8, 0)) + 1), 0)
            unlock(fd)
    pids = [child(count) for _ in range(3)]
    count()
    print(name, [wait(pid) for pid in pids])
    fd = opened()
    print(os.pread(fd, 8, 0))
    os.close(fd)

# Writers of one database.
sqlite3.connect("data.db").execute("create table t (who integer, number integer unique)").connection.close()
def insert(who):
    connection = sqlite3.connect("data.db", timeout=100, isolation_level=None)
    for i in range(5):
        connection.execute("begin immediate")
        highest = connection.execute("select coalesce(max(number), 0) from t").fetchone()[0]
        connection.execute("insert into t values (?, ?)", (who, highest + 1))
        connection.execute("commit")
pids = [child(lambda: insert(who)) for who in range(3)]
insert(9)
print([wait(pid) for pid in pids])
connection = sqlite3.connect("data.db")
print(connection.execute("select who, count(*) from t group by who order by who").fetchall(), connection.execute("select count(*), max(number) from t").fetchall(),
      connection.execute("pragma integrity_check").fetchall())
connection.close()
os.unlink("data.db")  # its pages' order is the writers'
PY

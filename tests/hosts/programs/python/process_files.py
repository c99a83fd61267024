# forks: 2
"""What /proc says of processes: by any pid that the program knows, of this process, its parent, its children, init."""
import os
import sys


def words(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        text = file.read()
    return text.split(" ", 1)[0], text.rsplit(") ", 1)[1].split()


def lines(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


def check(what, fact):
    print(what, fact)


def check_ids(what, pid, parent):
    own, rest = words(pid)
    status = lines(pid)
    check(what + ": pid", own == str(pid) == status["Pid"] == status["Tgid"])
    check(what + ": parent", rest[1] == str(parent) == status["PPid"])
    check(what + ": group", rest[2] == str(os.getpgid(pid)) == status["NSpgid"])
    check(what + ": session", rest[3] == str(os.getsid(pid)) == status["NSsid"])
    check(what + ": directory", os.path.isdir(f"/proc/{pid}") and os.access(f"/proc/{pid}/stat", os.R_OK))
    check(what + ": listed", str(pid) in os.listdir("/proc"))
    check(what + ": name", open(f"/proc/{pid}/comm", encoding="ascii").read() == open("/proc/self/comm", encoding="ascii").read())
    check(what + ": arguments", sys.argv[0].encode() in open(f"/proc/{pid}/cmdline", "rb").read())
    check(what + ": program", os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/self/exe"))
    check(what + ": place", os.readlink(f"/proc/{pid}/cwd") == os.getcwd())
    check(what + ": threads", os.listdir(f"/proc/{pid}/task") == [str(pid)])
    check(what + ": thread", os.path.exists(f"/proc/{pid}/task/{pid}/stat"))
    check(what + ": owner", os.stat(f"/proc/{pid}").st_uid == os.getuid())


def nested(root, parent):
    check_ids("nested", os.getpid(), parent)
    check_ids("its parent", parent, root)
    sys.stdout.flush()
    os._exit(0)


def remote(root):
    check_ids("itself", os.getpid(), root)
    check("link", os.readlink("/proc/self") == str(os.getpid()))
    own, rest = words("self")
    check("self: parent", rest[1] == str(root) == lines("self")["PPid"])
    check("descriptor", os.readlink(f"/proc/{os.getpid()}/fd/0") == os.readlink("/proc/self/fd/0"))
    check_ids("parent", root, parent_of_root)
    check("init", open("/proc/1/comm", encoding="ascii").read() == init)
    with os.fdopen(os.open(f"{os.getpid()}/stat", os.O_RDONLY, dir_fd=os.open("/proc", os.O_RDONLY))) as file:
        check("relative", file.read().split()[0] == str(os.getpid()))
    check("none", os.path.exists("/proc/999999999"))
    sys.stdout.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        nested(root, parent)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    check("child listed", str(child) in os.listdir("/proc"))
    check("zombie", words(child)[1][0])
    check("status", os.waitpid(child, 0)[1])
    check("gone", os.path.exists(f"/proc/{child}"))
    sys.stdout.flush()
    os._exit(0)


init = open("/proc/1/comm", encoding="ascii").read()
parent_of_root = os.getppid()
root_pid = os.getpid()
sys.stdout.flush()
first = os.fork()
if first == 0:
    remote(root_pid)
check("status", os.waitpid(first, 0)[1])

# forks: any
"""Processes that become another user's still belong to the session; what is done for them at home is as permitted."""
import os
import signal
import subprocess

def say(*what):
    print(*what, flush=True)


def may(what, call):
    try:
        call()
        say(what, "permitted")
    except PermissionError:
        say(what, "refused")


def nobody(sleeper):
    say("groups", sorted(os.getgroups()), os.getresuid(), os.getresgid())
    may("signal to root's", lambda: os.kill(sleeper, 0))
    child = os.fork()
    if child == 0:
        may("nested: signal to root's", lambda: os.kill(sleeper, 0))
        say("nested", os.getresuid(), os.getppid() != 1)
        os._exit(3)
    say("nested ended", os.waitpid(child, 0)[1])
    say(subprocess.run(["sh", "-c", "(id -u) & wait; kill -0 $PPID && exit 5"], stdout=subprocess.PIPE, check=False))


root = os.getuid() == 0
sleeping = os.fork()
if sleeping == 0:
    signal.pause()
    os._exit(0)

# On a worker, there and back, then for good.
first = os.fork()
if first == 0:
    if root:
        os.setgroups([65534, 12])
        os.setegid(65534)
        os.seteuid(65534)
        say("for a while", os.getresuid())
        os.seteuid(0)
        may("again root", lambda: os.kill(sleeping, 0))
        os.setgid(65534)
        os.setuid(65534)
        nobody(sleeping)
    os._exit(0)
say("status", os.waitpid(first, 0)[1])

os.kill(sleeping, signal.SIGKILL)
say("sleeper", os.waitpid(sleeping, 0)[1])

# At home, then by a program of its own.
PROGRAM = """
import os
def say(*what):
    print(*what, flush=True)
second = os.fork()
if second == 0:
    say("inherited", os.getresuid() == os.getresgid(), os.getgroups())
    try:
        os.kill(os.getppid(), 0)
        say("permitted", os.path.exists("/proc/%d/stat" % os.getppid()))
    except PermissionError:
        say("refused")
    third = os.fork()
    if third == 0:
        os._exit(7)
    say("nested ended", os.waitpid(third, 0)[1])
    os._exit(0)
say("status", os.waitpid(second, 0)[1])
"""
if root:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.execv("/usr/bin/python3", ["python3", "-c", PROGRAM])

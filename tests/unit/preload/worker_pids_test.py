#!/usr/bin/python3
"""Pids as a process on a worker sees them, under fake_agent 1: the session's are the kernel's + 1000000."""
import os
import resource
import signal
import subprocess
import sys

SHIFT = 1_000_000
ME = [sys.executable, os.path.abspath(__file__)]


def kernel_pid():
    return int(open("/proc/self/stat", encoding="ascii").read().split()[0])


def fork(body):
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException as error:  # the parent sees the status
            print(error, file=sys.stderr)
            os._exit(1)
    return pid


def child_body(parent):
    assert os.getpid() == kernel_pid() + SHIFT
    assert os.getppid() == parent, os.getppid()


def test_own_pid():
    assert os.getpid() == kernel_pid() + SHIFT, os.getpid()


def test_fork_and_wait():
    parent = os.getpid()
    pid = fork(lambda: child_body(parent))
    assert pid > SHIFT
    assert os.waitpid(pid, 0) == (pid, 0)
    pid = fork(lambda: os._exit(7))
    assert os.wait() == (pid, 7 << 8)
    pid = fork(lambda: os._exit(8))
    found, status, usage = os.wait4(pid, 0)
    assert (found, status) == (pid, 8 << 8) and usage.ru_maxrss > 0
    pid = fork(lambda: os._exit(9))
    info = os.waitid(os.P_PID, pid, os.WEXITED)
    assert (info.si_pid, info.si_status) == (pid, 9)


def test_nested():
    def middle():
        parent = os.getpid()
        pid = fork(lambda: child_body(parent))
        assert os.waitpid(pid, 0) == (pid, 0)
    pid = fork(middle)
    assert os.waitpid(pid, 0) == (pid, 0)


def test_no_children():
    for wait in (lambda: os.wait(), lambda: os.waitpid(os.getpid() + 1, 0)):
        try:
            wait()
            raise AssertionError("waited for nobody")
        except ChildProcessError:
            pass


def test_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    read_end, write_end = os.pipe()
    pid = fork(lambda: (os.write(write_end, b"x"), signal.pause()))
    os.read(read_end, 1)
    os.kill(pid, signal.SIGTERM)
    info = signal.sigwaitinfo([signal.SIGCHLD])
    assert info.si_pid == pid, info
    assert os.waitpid(pid, 0) == (pid, signal.SIGTERM)
    pid = fork(signal.pause)
    os.kill(pid, signal.SIGKILL)
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)
    os.kill(os.getpid(), 0)
    os.kill(os.getpid() - SHIFT - 1, 0)  # not on this host: home's business, whose answer is 4242
    signal.sigwaitinfo([signal.SIGCHLD])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])


def test_programs():
    script = ME + ["--pid"]
    for environment in ({}, {"LD_PRELOAD": "/nonexistent-other.so"}, None):
        out = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout
        session, kernel = map(int, out.split())
        assert session == kernel + SHIFT, out
    pid = os.posix_spawn(script[0], script, {}, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    assert pid > SHIFT and os.waitpid(pid, 0) == (pid, 0)

    def exec_here():
        os.environ["EXPECT"] = str(os.getpid())
        os.execvp(script[0], script[:2] + ["--same"])
    pid = fork(exec_here)
    assert os.waitpid(pid, 0) == (pid, 0)
    pid = fork(lambda: os.execle("/usr/bin/env", "env", "-i", *ME, "--pid", {}))
    assert os.waitpid(pid, 0) == (pid, 0)


def test_shell():
    import ctypes
    libc = ctypes.CDLL(None)
    command = " ".join(ME + ["--pid"]) + " > /dev/null; exit 5"
    assert libc.system(command.encode()) == 5 << 8
    libc.popen.restype = ctypes.c_void_p
    libc.fgets.restype = ctypes.c_char_p
    stream = ctypes.c_void_p(libc.popen(" ".join(ME + ["--pid"]).encode(), b"r"))
    line = ctypes.create_string_buffer(100)
    session, kernel = map(int, libc.fgets(line, 100, stream).split())
    assert session == kernel + SHIFT and libc.pclose(stream) == 0
    stream = ctypes.c_void_p(libc.popen(b"read word; test $word = hello && exit 3", b"w"))
    libc.fputs(b"hello\n", stream)
    assert libc.pclose(stream) == 3 << 8


def test_groups():
    assert os.getpgrp() == 4242 and os.getsid(0) == 4242 and os.getpgid(0) == 4242


def test_closing_everything():
    os.closerange(3, 4096)
    parent = os.getpid()
    pid = fork(lambda: child_body(parent))
    assert os.waitpid(pid, 0) == (pid, 0)


def test_attributes_of_itself():
    assert os.sched_getaffinity(os.getpid()) == os.sched_getaffinity(0)
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == os.getpriority(os.PRIO_PROCESS, 0)
    assert resource.prlimit(os.getpid(), resource.RLIMIT_CORE) == resource.getrlimit(resource.RLIMIT_CORE)


if sys.argv[1:] == ["--pid"]:
    print(os.getpid(), kernel_pid())
elif sys.argv[1:] == ["--same"]:
    assert os.getpid() == int(os.environ["EXPECT"]) == kernel_pid() + SHIFT
else:
    for name, test in [(n, t) for n, t in list(globals().items()) if n.startswith("test_")]:
        test()
        print("ok", name, flush=True)

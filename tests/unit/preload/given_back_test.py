#!/usr/bin/python3
"""Children that were captured and then given back by the agent (fake_agent 0) run here as if nothing had happened."""
import multiprocessing
import os
import signal
import subprocess


def kernel_pid():
    return int(open("/proc/self/stat", encoding="ascii").read().split()[0])


def check_child(descriptors, mask):
    assert os.getpid() == kernel_pid() and os.getppid() == PARENT
    assert sorted(os.listdir("/proc/self/fd")) == descriptors
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    os._exit(42)


PARENT = os.getpid()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
descriptors = sorted(os.listdir("/proc/self/fd"))
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        check_child(descriptors, {signal.SIGUSR1})
    assert os.waitpid(pid, 0) == (pid, 42 << 8)

# A child that was given back is an ordinary process: it forks, waits and execs.
pid = os.fork()
if pid == 0:
    inner = os.fork()
    if inner == 0:
        os.execlp("sh", "sh", "-c", "exit 9")
    os._exit(os.waitpid(inner, 0)[1] >> 8)
assert os.waitpid(pid, 0) == (pid, 9 << 8)

ours, theirs = multiprocessing.Pipe()
process = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(ours.recv() + 1))
process.start()
theirs.send(6)
process.join()
assert ours.recv() == 7 and process.exitcode == 0

out = subprocess.run(["env", "-i", "/usr/bin/env"], capture_output=True, text=True, check=True).stdout
assert "LD_PRELOAD=" in out and "ELSEWHERE_AGENT=" in out, out
subprocess.run(["/usr/bin/env", "true"], env={}, close_fds=True, check=True)
print("ok")

#!/usr/bin/python3
"""Kills one process of a session with SIGKILL while a job is busy, and looks at what follows.

Usage: kill_one.py LAUNCHER VICTIM [--job pool|fork|waits] [--external-redis]

VICTIM: launcher, agent, worker, redis, root, child (a restored process), or nobody.
Within ten seconds the session must have ended, with the right result or with a message and a status that is not 0,
never with a wrong result; and nothing of it may be left: no process, directory, socket or key.
"""
import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import leftovers

# What is asked for where nothing else runs; on a busy machine every process gets its time in shares.
SECONDS = 10 * max(1.0, os.getloadavg()[0] / os.cpu_count())
HERE = os.path.dirname(os.path.abspath(__file__))
VICTIMS = ["launcher", "agent", "worker", "redis", "root", "child", "nobody"]


def until(condition, seconds=SECONDS):
    """The first true value of a condition on other processes, or its last false one when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


class Session:
    """The processes of one running session, by what they are."""

    def __init__(self, launcher_pid):
        every = leftovers.processes()
        self.parents = {pid: parent for pid, (_, parent, _, _) in every.items()}
        self.commands = {pid: command for pid, (_, _, _, command) in every.items()}
        self.launcher = launcher_pid
        self.agent = next(pid for pid in self.children(launcher_pid) if self.mode(pid) == b"agent")
        # Beside COMMAND there is a copy of the launcher, which only watches signals.
        self.root = next(pid for pid in self.children(launcher_pid)
                         if pid != self.agent and self.commands[pid] != self.commands[launcher_pid])
        words = self.commands[self.agent].split(b"\0")
        self.id = words[words.index(b"--session") + 1].decode()
        self.workers = [pid for pid in self.children(self.agent) if self.mode(pid) == b"worker"]
        self.redis = [pid for pid in self.children(self.agent) if b"redis-server" in self.commands[pid].split(b"\0")[0]]
        self.restored = [pid for pid, (state, _, environment, _) in every.items()
                         if state not in "ZX" and b"libelsewhere" in environment and self.id.encode() in environment
                         and self.is_below_worker(pid)]

    def children(self, parent):
        return [pid for pid, its_parent in self.parents.items() if its_parent == parent]

    def mode(self, pid):
        return (self.commands[pid].split(b"\0") + [b""])[1]

    def is_below_worker(self, pid):
        while pid in self.parents:
            pid = self.parents[pid]
            if pid in self.workers:
                return True
        return False

    def victim(self, name):
        return {"launcher": [self.launcher], "agent": [self.agent], "worker": self.workers, "redis": self.redis,
                "root": [self.root], "child": self.restored}[name][0]

    def kill_all(self):
        for pid in leftovers.of_session(self.id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def external_redis(wanted):
    """The socket of a Redis of the test's own, or None."""
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory],
                                  stdout=subprocess.DEVNULL)
        try:
            until(lambda: os.path.exists(path))
            yield path
        finally:
            server.kill()
            server.wait()


def judge(victim, status, output, errors, expected):
    """What is wrong with how the session ended."""
    if status == 0 and output == expected:
        return []
    wrong = []
    if victim == "nobody":
        wrong.append("it failed although nobody was killed")
    if not expected.startswith(output):
        wrong.append(f"a wrong result: {output!r}")
    if status == 0:
        wrong.append("status 0 without the result")
    if victim == "root" and status != 128 + signal.SIGKILL:
        wrong.append(f"status {status}, expected {128 + signal.SIGKILL}")
    if victim not in ("root", "launcher") and "elsewhere: " not in errors:
        wrong.append("no message")
    return wrong


def finish(job, session):
    """The rest of standard output, and what is wrong if the session did not end in time."""
    try:
        return job.communicate(timeout=SECONDS)[0], []
    except subprocess.TimeoutExpired:
        wrong = [f"not ended after {SECONDS:.0f} s", *leftovers.of(session.id)]
        session.kill_all()
        job.kill()
        return job.communicate()[0], wrong


def run(launcher, victim, command, redis_path):
    expected = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True, text=True).stdout
    redis = ["--redis", "unix://" + redis_path] if redis_path else []
    with tempfile.TemporaryFile("w+") as error_file:
        job = subprocess.Popen([launcher, "run", "--workers", "2", *redis, "--", *command], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=error_file, text=True)
        first = job.stdout.readline()
        if first != "running\n":
            job.communicate()
            error_file.seek(0)
            return [f"it did not get under way: {first!r}, {error_file.read()}"]
        session = Session(job.pid)
        while not session.restored and job.poll() is None:  # they may be short-lived
            session = Session(job.pid)
        wrong = [] if session.restored else ["no child runs on a worker"]
        if victim != "nobody":
            os.kill(session.victim(victim), signal.SIGKILL)
        killed = time.monotonic()
        rest, late = finish(job, session)
        took = time.monotonic() - killed
        error_file.seek(0)
        errors = error_file.read()
    wrong += late + judge(victim, job.returncode, first + rest, errors, expected)
    until(lambda: not leftovers.of(session.id, redis_path), max(0.1, SECONDS - took))
    wrong += ["left: " + what for what in leftovers.of(session.id, redis_path)]
    session.kill_all()
    print(f"{victim}: status {job.returncode} after {took:.2f} s; output {first + rest!r}; errors {errors!r}")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("launcher")
    parser.add_argument("victim", choices=VICTIMS)
    parser.add_argument("--job", choices=["pool", "fork", "waits"], default="pool")
    parser.add_argument("--external-redis", action="store_true")
    options = parser.parse_args()
    with external_redis(options.external_redis) as redis_path:
        wrong = run(options.launcher, options.victim, ["/usr/bin/python3", f"{HERE}/{options.job}_job.py"], redis_path)
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

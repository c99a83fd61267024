#!/usr/bin/python3
"""Kills any one process of a session at any moment, from its first millisecond on, many times.

Usage: kill_random.py LAUNCHER [ROUNDS [SEED]]

The same is asked for as in kill_one.py, except that the victim may be a process whose death the job itself notices (a
child killed at home, for example), so that a job that ends with its own complaint is right, too. A Pool whose worker
is killed at home waits for ever, natively as well: only the job that needs nothing but forks is used.
"""
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

import kill_one
import leftovers

COMMAND = ["/usr/bin/python3", kill_one.HERE + "/fork_job.py", "600"]
EXPECTED = "running\n29700\n"


def session_of(launcher_pid):
    """The id of the session that a launcher has started, once it has started one."""
    for _, parent, _, command in leftovers.processes().values():
        words = command.split(b"\0")
        if parent == launcher_pid and b"--session" in words:
            return words[words.index(b"--session") + 1].decode()
    return None


def members(job, session):
    """Launcher first; then what carries the id: agent, redis-server, workers, root, children, deputies."""
    return [job.pid, *leftovers.of_session(session)]


def whole_run(launcher):
    """How long the job takes here and now, when nobody is killed."""
    begin = time.monotonic()
    subprocess.run([launcher, "run", "--workers", "2", "--", *COMMAND], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def one_round(launcher, generator, seconds):
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as output:
        job = subprocess.Popen([launcher, "run", "--workers", "2", "--", *COMMAND], stdin=subprocess.DEVNULL,
                               stdout=output, stderr=errors)
        session = kill_one.until(lambda: session_of(job.pid) or job.poll() is not None)
        time.sleep(generator.random() ** 2 * 1.5)
        victim = generator.choice(members(job, session))
        name = leftovers.of_session(session).get(victim, "launcher")[:60]
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        wrong = []
        try:
            job.wait(kill_one.SECONDS)
        except subprocess.TimeoutExpired:
            wrong.append(f"not ended after {kill_one.SECONDS:.0f} s: {leftovers.of(session)}")
        kill_one.until(lambda: not leftovers.of(session))
        wrong += ["left: " + what for what in leftovers.of(session)]
        for pid in leftovers.of_session(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        job.kill()
        job.wait()
        for file in (output, errors):
            file.seek(0)
        text, said = output.read(), errors.read()
    if job.returncode == 0 and text != EXPECTED:
        wrong.append(f"status 0 with {text!r}")
    if job.returncode != 0 and not said and job.returncode not in (-9, 137):
        wrong.append(f"status {job.returncode} without a message")
    return [f"{line} (victim {victim} {name}; {said!r})" for line in wrong]


def main():
    launcher = sys.argv[1]
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 15
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    print("seed", seed, flush=True)
    generator = random.Random(seed)
    # A worker without a child is replaced, and the job goes on to its end.
    seconds = kill_one.SECONDS + 3 * whole_run(launcher)
    wrong = [line for _ in range(rounds) for line in one_round(launcher, generator, seconds)]
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Kills any one process of a session at any moment, from its first millisecond on, many times.

Usage: kill_random.py [--job fork|pipelines] LAUNCHER [ROUNDS [SEED]]

The same is asked for as in kill_one.py, except that the victim may be a process whose death the job itself notices (a
child killed at home, for example), so that a job that ends with its own complaint is right, too. A Pool whose worker
is killed at home waits for ever, natively as well: only jobs that need nothing but forks and pipelines are used. Of
the pipelines, whose stages may be killed without anybody's notice, only hosts are killed: agents and their workers,
also while a pipe moves from one to the other.
"""
import argparse
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

JOBS = {"fork": ["--workers", "2", "--", "/usr/bin/python3", kill_one.HERE + "/fork_job.py", "600"],
        "pipelines": ["--workers", "1", "--", "/usr/bin/bash", kill_one.HERE + "/pipelines_job.sh", "30"]}
EXPECTED = {"fork": "running\n29700\n", "pipelines": "153330\n"}


def session_of(launcher_pid):
    """The id of the session that a launcher has started, once it has started one."""
    for _, parent, _, command in leftovers.processes().values():
        words = command.split(b"\0")
        if parent == launcher_pid and b"--session" in words:
            return words[words.index(b"--session") + 1].decode()
    return None


def victims(name, job, session):
    """Launcher first; then what carries the id: agent, redis-server, workers, root, children, deputies."""
    if name == "fork":
        return [job.pid, *leftovers.of_session(session)]
    commands = {pid: command.split(b"\0") for pid, (_, _, _, command) in leftovers.processes().items()}
    return [pid for pid in leftovers.of_session(session) if commands.get(pid, [])[1:2] in ([b"agent"], [b"worker"])]


def whole_run(launcher, name):
    """How long the job takes here and now, when nobody is killed."""
    begin = time.monotonic()
    subprocess.run([launcher, "run", *JOBS[name]], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def one_round(launcher, name, generator, seconds):
    with tempfile.TemporaryFile("w+") as errors, tempfile.TemporaryFile("w+") as output:
        job = subprocess.Popen([launcher, "run", *JOBS[name]], stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        session = kill_one.until(lambda: session_of(job.pid) or job.poll() is not None)
        time.sleep(generator.random() ** 2 * 1.5)
        victim = generator.choice(victims(name, job, session) or [job.pid])
        called = leftovers.of_session(session).get(victim, "launcher")[:60]
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        wrong = []
        try:
            job.wait(seconds)
        except subprocess.TimeoutExpired:
            wrong.append(f"not ended after {seconds:.0f} s: {leftovers.of(session)}")
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
    if job.returncode == 0 and text != EXPECTED[name]:
        wrong.append(f"status 0 with {text!r}")
    if job.returncode != 0 and not said and job.returncode not in (-9, 137):
        wrong.append(f"status {job.returncode} without a message")
    return [f"{line} (victim {victim} {called}; {said!r})" for line in wrong]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", choices=JOBS, default="fork")
    parser.add_argument("launcher")
    parser.add_argument("rounds", type=int, nargs="?", default=15)
    parser.add_argument("seed", type=int, nargs="?", default=random.randrange(1 << 32))
    options = parser.parse_args()
    print("seed", options.seed, flush=True)
    generator = random.Random(options.seed)
    # A worker without a child is replaced, and the job goes on to its end.
    seconds = kill_one.SECONDS + 3 * whole_run(options.launcher, options.job)
    wrong = [line for _ in range(options.rounds)
             for line in one_round(options.launcher, options.job, generator, seconds)]
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

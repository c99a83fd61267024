#!/usr/bin/python3
"""Kills processes of a chain of nested forks (nested_job.py) with SIGKILL, and looks at what the others make of it.

Usage: kill_nested.py LAUNCHER CASE

CASE: nobody, or some of A, B, C: their pids are killed, one after the other, as a user would. What the others say and
the exit status must be as natively.
restored: one process is killed on its worker behind the session's back. The session must end with a message and a status
that is not 0 within ten seconds, without a wrong result.
Nothing may be left either way.
"""
import os
import signal
import subprocess
import sys
import tempfile

import kill_one
import leftovers

COMMAND = ["/usr/bin/python3", os.path.join(kill_one.HERE, "nested_job.py")]


class Job:
    """The chain, with all three running."""

    def __init__(self, *prefix):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([*prefix, *COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True)
        self.pids = dict(zip("ABC", map(int, self.process.stdout.readline().split())))

    def finish(self, line="go\n"):
        """(standard output, status); a job that does not end is killed, and its status None."""
        try:
            output = self.process.communicate(line, timeout=kill_one.SECONDS)[0]
            return output, self.process.returncode
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()[0], None

    def said(self):
        self.errors.seek(0)
        return self.errors.read()


def kill_and_finish(job, case, are_gone=lambda number: True):
    """`are_gone` says that so many are: elsewhere a process ends a moment after the one at home that has its pid, and may
    in that moment act on what the others do next, or on the next one's end."""
    for number, name in enumerate(case if case != "nobody" else "", 1):
        os.kill(job.pids[name], signal.SIGKILL)
        kill_one.until(lambda: are_gone(number))
    return job.finish("release\n" if case == "nobody" else "go\n")


def as_natively(launcher, case):
    native = kill_and_finish(Job(), case)
    job = Job(launcher, "run", "--workers", "2", "--")
    session = kill_one.Session(job.process.pid)
    wrong = [] if len(session.restored) == 3 else [f"{len(session.restored)} processes on workers, expected 3"]
    remote = kill_and_finish(job, case, lambda number: len(kill_one.Session(job.process.pid).restored) == 3 - number)
    if native != remote:
        wrong.append(f"natively {native}, remotely {remote}; {job.said()!r}")
    return session, wrong


def behind_the_back(launcher, index):
    job = Job(launcher, "run", "--workers", "2", "--")
    session = kill_one.Session(job.process.pid)
    os.kill(sorted(session.restored)[index], signal.SIGKILL)
    output, status = job.finish()
    wrong = []
    if status in (0, None) or "elsewhere: " not in job.said():
        wrong.append(f"status {status}, {job.said()!r}")
    if output:
        wrong.append(f"a result: {output!r}")
    return session, wrong


def main():
    launcher, case = sys.argv[1:]
    if case.startswith("restored"):
        session, wrong = behind_the_back(launcher, int(case.removeprefix("restored")))
    else:
        session, wrong = as_natively(launcher, case)
    kill_one.until(lambda: not leftovers.of(session.id))
    wrong += ["left: " + what for what in leftovers.of(session.id)]
    session.kill_all()
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""A worker that hangs (it is stopped) while it holds children, or while it is idle; and one that dies while it is idle.

Usage: silent_worker.py LAUNCHER busy|idle|dead

busy: the session ends with a message that names the worker, within the 30 seconds without heartbeats that it allows
(and some for a slow machine), and with a status that is not 0.
idle: the children that follow run elsewhere, with the right result; the hanging worker is ended and replaced.
dead: the same for a worker that is killed.
"""
import os
import signal
import subprocess
import sys
import tempfile

import kill_one
import leftovers

SECONDS = 90  # a bound for what never comes
CHILDREN = ("import os, sys\n"
            "print('running', flush=True)\n"
            "sys.stdin.readline()\n"
            "for number in range(8):\n"
            "    child = os.fork()\n"
            "    if child == 0: os._exit(number)\n"
            "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)\n")


class Run:
    def __init__(self, launcher, *command):
        self.errors = tempfile.TemporaryFile("w+")
        self.job = subprocess.Popen([launcher, "run", "--workers", "1", "--stats=json", "--", *command],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        assert self.job.stdout.readline() == "running\n"
        self.session = kill_one.until(self.with_worker)

    def with_worker(self):
        session = kill_one.Session(self.job.pid)
        return session if session.workers else None

    def finish(self, line=""):
        """Standard output, status, standard error, and what is left after the end."""
        output = self.job.communicate(line, timeout=SECONDS)[0]
        kill_one.until(lambda: not leftovers.of(self.session.id))
        left = leftovers.of(self.session.id)
        self.session.kill_all()
        self.errors.seek(0)
        return output, self.job.returncode, self.errors.read(), left


def busy(launcher):
    run = Run(launcher, "/usr/bin/python3", os.path.join(kill_one.HERE, "waits_job.py"))
    os.kill(run.session.workers[0], signal.SIGSTOP)
    output, status, errors, left = run.finish()
    wrong = list(left)
    if status == 0 or output or "elsewhere: worker 1 is gone (no sign of life" not in errors:
        wrong.append(f"status {status}, output {output!r}, errors {errors!r}")
    return wrong


def idle(launcher, number):
    run = Run(launcher, "/usr/bin/python3", "-c", CHILDREN)
    worker = run.session.workers[0]
    os.kill(worker, number)
    # It is taken for dead and ended before anybody needs it.
    wrong = [] if kill_one.until(lambda: worker not in leftovers.of_session(run.session.id), SECONDS) else ["it lives"]
    output, status, errors, left = run.finish("go\n")
    expected = "".join(f"{child}\n" for child in range(8))
    if (output, status) != (expected, 0) or '"forks_remote":8' not in errors.replace(" ", ""):
        wrong.append(f"status {status}, output {output!r}, errors {errors!r}")
    return wrong + left


def main():
    launcher, case = sys.argv[1:]
    wrong = {"busy": lambda: busy(launcher), "idle": lambda: idle(launcher, signal.SIGSTOP),
             "dead": lambda: idle(launcher, signal.SIGKILL)}[case]()
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

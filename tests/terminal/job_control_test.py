#!/usr/bin/python3
"""Terminals and job control, typed at a real pseudo-terminal.

Usage: job_control_test.py LAUNCHER [TEST...]
"""
import fcntl
import os
import struct
import sys
import tempfile
import termios
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault"))
import kill_one  # noqa: E402
import leftovers  # noqa: E402
from terminal import Terminal  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = os.path.abspath(sys.argv.pop(1))
SHELL = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
PROMPT = {"PS1": "<prompt>", "BASH_SILENCE_DEPRECATION_WARNING": "1"}
PYTHON = "/usr/bin/python3"


def eventually(condition):
    end = time.monotonic() + 10
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


def state(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(") ")[2].split()[0]


class OnTerminal(unittest.TestCase):
    def start(self, *command):
        terminal = Terminal(*command, environment=PROMPT)
        self.addCleanup(terminal.close)
        return terminal


class Facts(OnTerminal):
    """A remote child sees the same terminal as a native one."""

    def conversation(self, *command):
        terminal = self.start(*command, PYTHON, os.path.join(HERE, "facts.py"), "child")
        text = terminal.expect(b"resize me\r\n")
        fcntl.ioctl(terminal.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        text += terminal.expect(b"not echoed 0\r\n")
        terminal.send(b"first\n")
        text += terminal.expect(b"say it: ")
        terminal.send(b"hidden\n")
        text += terminal.expect(b"in foreground True\r\n")
        terminal.send(b"second\n")
        rest, status = terminal.finish()
        return text + rest, status

    def test_child(self):
        native = self.conversation()
        self.assertIn(b"no input in the background: Input/output error", native[0])
        self.assertIn(b"columns=77, lines=33", native[0])
        remote = self.conversation(LAUNCHER, "run", "--stats=json", "--")
        text, _, statistics = remote[0].rpartition(b"\r\n{")
        self.assertIn(b'"forks_remote":1,', statistics.replace(b" ", b""))
        self.assertEqual((native[0].rstrip(), native[1]), (text, remote[1]))


class Launcher(OnTerminal):
    """`elsewhere run` as a job of an interactive shell."""
    # The child says when it is continued and ends by Ctrl-C. Its handler's byte in a pipe ends the read also when the
    # signal comes right before it; of a pause, python's own handler would then have to wait for the next signal.
    JOB = ("import os, signal, sys\n"
           "child = os.fork()\n"
           "if child == 0:\n"
           "    signal.signal(signal.SIGCONT, lambda *_: os.write(1, b'<continued>'))\n"
           "    came, woken = os.pipe()\n"
           "    os.set_blocking(woken, False)\n"
           "    signal.set_wakeup_fd(woken)\n"
           "    signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
           "    os.write(1, b'<ready>')\n"
           "    while True: os.read(came, 1)\n"
           "signal.signal(signal.SIGINT, lambda *_: None)\n"
           "print('<child %d>' % os.waitpid(child, 0)[1])\n"
           "sys.exit(7)\n")

    def setUp(self):
        self.terminal = self.start(*SHELL)
        self.terminal.expect(b"<prompt>")

    def remote_child(self):
        launcher = next(pid for pid, (_, parent, _, command) in leftovers.processes().items()
                        if parent == self.terminal.pid and b"run\0" in command)
        return kill_one.Session(launcher).restored[0]

    def start_job(self):
        # In a file: the shell shows the command, which must not look like its output.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        with open(directory.name + "/job.py", "w", encoding="utf-8") as file:
            file.write(self.JOB)
        self.terminal.send(f"{LAUNCHER} run {PYTHON} {directory.name}/job.py\n".encode())
        self.terminal.expect(b"\r\n")
        self.terminal.expect(b"<ready>")

    def test_stop_and_continue(self):
        self.start_job()
        child = self.remote_child()
        for command in (b"fg\n", b"fg\n"):
            self.terminal.send(b"\x1a")
            self.terminal.expect(b"Stopped")
            self.terminal.expect(b"<prompt>")
            self.assertTrue(eventually(lambda: state(child) == "T"), state(child))
            self.terminal.send(command)
            self.terminal.expect(b"<continued>")
        self.terminal.send(b"\x1a")
        self.terminal.expect(b"Stopped")
        self.terminal.expect(b"<prompt>")
        self.terminal.send(b"bg\n")
        self.terminal.expect(b"<continued>")
        self.terminal.send(b"jobs\n")
        self.terminal.expect(b"Running")
        self.terminal.expect(b"<prompt>")
        self.terminal.send(b"fg\n")
        self.terminal.expect(b"\r\n")
        self.assertTrue(eventually(lambda: os.tcgetpgrp(self.terminal.descriptor) != self.terminal.pid))
        self.terminal.send(b"\x03")
        self.terminal.expect(b"<child 2>")
        self.terminal.expect(b"<prompt>")
        self.terminal.send(b"echo status $?\n")
        self.terminal.expect(b"status 7\r\n")

    def test_quit(self):
        self.start_job()
        self.terminal.send(b"\x1c")
        self.terminal.expect(b"<prompt>")
        self.terminal.send(b"echo status $?\n")
        self.terminal.expect(b"status 131\r\n")


class Shell(OnTerminal):
    """An interactive shell under `elsewhere run`, whose jobs are remote; and the same shell natively."""

    def conversation(self, *command):
        terminal = self.start(*command, *SHELL)
        terminal.expect(b"<prompt>")

        def run(text, *wanted):
            terminal.send(text.encode() + b"\n")
            terminal.expect(b"\r\n")
            for one in wanted:
                terminal.expect(one)

        def prompt():
            terminal.expect(b"<prompt>")

        # Dies by Ctrl-C at any moment; python's own handler could run just before the read, which then waits on.
        reader = f"{PYTHON} -c 'import signal; signal.signal(2, signal.SIG_DFL); print(\"<ready>\", flush=True); print(\"<got %s>\" % input())'"
        # Stopped while it waits for input: what is typed then is the shell's.
        run(reader, b"<ready>")
        terminal.send(b"\x1a")
        terminal.expect(b"Stopped")
        prompt()
        run("echo '<shell'\\''s>'", b"<shell's>")
        prompt()
        run("fg")
        terminal.expect(b"\r\n")
        terminal.send(b"typed\n")
        terminal.expect(b"<got typed>")
        prompt()
        # In the background it is stopped when it reads.
        run(reader + " &", b"<ready>")
        run("while ! jobs | grep Stopped; do :; done", b"Stopped")
        prompt()
        run("fg")
        terminal.send(b"later\n")
        terminal.expect(b"<got later>")
        prompt()
        # The terminal's signals are for the job in the foreground.
        run(reader, b"<ready>")
        terminal.send(b"\x03")
        prompt()
        run("echo status $?", b"status 130\r\n")
        prompt()
        run("(exec " + reader + ")", b"<ready>")
        terminal.send(b"\x1c")
        terminal.expect(b"Quit")
        prompt()
        run("echo status $?", b"status 131\r\n")
        prompt()
        # Pipelines and subshells are groups, too.
        run("(echo one; " + reader + ") | cat", b"<ready>")
        terminal.send(b"\x1a")
        terminal.expect(b"Stopped")
        prompt()
        run("kill -9 %1; wait -f %1; echo status $?", b"status")
        prompt()
        terminal.send(b"exit 3\n")
        return terminal.finish()

    def test_native(self):
        self.assertEqual(3, self.conversation()[1])

    def test_remote(self):
        text, status = self.conversation(LAUNCHER, "run", "--workers", "2", "--stats=json", "--")
        self.assertEqual(3, status, text)
        statistics = text[text.rindex(b'{"forks_remote"'):].replace(b" ", b"")
        self.assertIn(b'"forks_local":0', statistics)
        self.assertNotIn(b'"forks_remote":0,', statistics)


if __name__ == "__main__":
    unittest.main()

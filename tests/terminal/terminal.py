"""A pseudo-terminal with a command on it, as a user in front of it would see and use it."""
import contextlib
import os
import pty
import select
import signal
import time

SECONDS = 60


class Terminal:
    """The command leads a session of its own whose controlling terminal this is."""

    def __init__(self, *command, environment=None):
        self.text = b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, {**os.environ, **(environment or {})})

    def send(self, text):
        os.write(self.descriptor, text)

    def read(self, seconds):
        """More text, b"" when nobody holds the terminal any more or the time is over."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self.descriptor, 65536)
        except OSError:
            return b""

    def expect(self, wanted):
        """Everything up to `wanted`, which is taken. The time is a bound for what never comes, not a measure."""
        end = time.monotonic() + SECONDS
        while wanted not in self.text:
            more = self.read(max(0, end - time.monotonic()))
            if not more:
                raise AssertionError(f"{wanted!r} did not come, but {self.text!r}")
            self.text += more
        before, _, self.text = self.text.partition(wanted)
        return before

    def finish(self):
        """All that still comes, and the exit status."""
        while more := self.read(SECONDS):
            self.text += more
        text, self.text = self.text, b""
        return text, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.descriptor)

"""What a server and an agent use while bench_file.py waits for them."""
import contextlib
import glob
import os
import threading


def server_seconds():
    """Processor time of the server that tests/s3/rgw has started; 0 of any other."""
    seconds = 0
    for file in glob.glob(os.path.join(os.path.dirname(os.environ.get("S3_CA", "")) or "/nowhere", "*.pid")):
        with open(file, encoding="ascii") as pid, open(f"/proc/{pid.read().strip()}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


class AgentMemory:
    """The most memory of the agent whose cache is that directory, in MiB: the kernel's own mark, read while it lives."""

    def __init__(self, cache):
        self.mark, self.peak, self.over = f"XDG_CACHE_HOME={cache}".encode(), 0, threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def agents(self):
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as environ, \
                    open(f"/proc/{entry}/comm", encoding="ascii") as comm:
                if comm.read().startswith("elsewhere-runti") and self.mark in environ.read().split(b"\0"):
                    yield entry

    def watch(self):
        while not self.over.wait(0.3):
            for pid in self.agents():
                with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii") as status:
                    marks = [line.split()[1] for line in status if line.startswith("VmHWM:")]
                    self.peak = max(self.peak, *(int(mark) / 1024 for mark in marks), 0)

    def end(self):
        self.over.set()
        self.watcher.join()
        return self.peak

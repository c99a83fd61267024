#!/usr/bin/python3
"""A worker that dies before the child that it was chosen for runs: the child has all its descriptors, wherever it runs.

Usage: early_loss.py LAUNCHER image|job|back

image: while the store takes the image: the child runs on the worker that replaces it.
job: while the job waits in the worker, which is stopped: the child runs at home, or there.
back: the same, with more descriptors than go in one packet.
"""
import os
import signal
import subprocess
import sys
import tempfile
import threading

import kill_one
import leftovers

# A line of each descriptor that the child has, and what comes and goes through them.
PROGRAM = r"""
import os, socket, sys, tempfile
print("running", flush=True)
sys.stdin.readline()
ours = [os.pipe() for _ in range(int(sys.argv[1]))]
back, there = os.pipe(), socket.socketpair()
file = tempfile.TemporaryFile()
numbers = [number for pair in (*ours, back) for number in pair] + [there[0].fileno(), there[1].fileno(), file.fileno()]
sys.stdout.flush()
child = os.fork()
if child == 0:
    sent = there[1].recv(100)
    print("has", sum(os.path.exists(f"/proc/self/fd/{number}") for number in [0, 1, 2, *numbers]), flush=True)
    print("errors", file=sys.stderr, flush=True)
    for read, write in ours:
        os.close(read)
        os.write(write, b"p")
    there[1].sendall(b"socket " + sent)
    os.write(back[1], b"all")
    os._exit(7)
print("forked", child, flush=True)
there[0].sendall(b"there and back")
there[1].close()
os.close(back[1])
for _, write in ours: os.close(write)
print(b"".join(os.read(read, 10) for read, _ in ours).count(b"p"), there[0].recv(100), os.read(back[0], 100))
print([os.read(read, 10) for read, _ in ours].count(b""), os.read(back[0], 10), there[0].recv(10))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


class Store:
    """An S3 server, started by tests/s3/rgw, that gets the first pack when it is let in."""
    def __init__(self):
        from proxy import Proxy
        self.coming, self.let_in = threading.Event(), threading.Event()
        self.environment = {"AWS_ENDPOINT_URL": Proxy(os.environ["S3_ENDPOINT"], self.hold).url}
        self.name = f"s3://{os.environ['S3_BUCKET']}/early_loss"

    def hold(self, request, _):
        line = (request or b"").partition(b"\r\n")[0]
        if line.startswith(b"PUT ") and b"/packs/" in line:
            self.coming.set()
            self.let_in.wait()


def holds_no_pipe(pid):
    """A deputy that has let its pipes and sockets go has none but its connection to the agent."""
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except FileNotFoundError:
        return False
    return sum(link.startswith("pipe:[") for link in links) <= 1  # the session's lifeline


def numbers_free(lines):
    """Without the child's pid."""
    return [line for line in lines if not line.startswith("forked")]


def main():
    launcher, case = sys.argv[1:]
    pipes = "300" if case == "back" else "5"
    command = ["/usr/bin/python3", "-c", PROGRAM, pipes]
    native = subprocess.run(command, input="go\n", capture_output=True, text=True, check=True)
    store = Store() if case == "image" else None
    options, environment = (["--store", store.name], store.environment) if store else ([], {})
    with tempfile.TemporaryFile("w+") as errors:
        job = subprocess.Popen([launcher, "run", "--workers", "1", *options, "--", *command], text=True, stderr=errors,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **environment})
        output = [job.stdout.readline()]
        session = kill_one.until(lambda: (lambda found: found if found.workers else None)(kill_one.Session(job.pid)))
        worker = session.workers[0]
        if case != "image":
            os.kill(worker, signal.SIGSTOP)
        job.stdin.write("go\n")
        job.stdin.close()
        output.append(job.stdout.readline())
        while not output[-1].startswith("forked") and job.poll() is None:
            output.append(job.stdout.readline())
        wrong = []
        if store:
            if not store.coming.wait(kill_one.SECONDS):
                wrong.append("no image comes")
        elif not kill_one.until(lambda: holds_no_pipe(int(output[-1].split()[1]))):
            wrong.append("the deputy keeps its pipes")
        os.kill(worker, signal.SIGKILL)
        if store:
            if not kill_one.until(lambda: kill_one.Session(job.pid).workers not in ([], [worker])):
                wrong.append("the worker is not replaced")
            store.let_in.set()
        try:
            output += job.stdout.readlines()
            job.wait(kill_one.SECONDS)
        except subprocess.TimeoutExpired:
            wrong.append("not ended")
            session.kill_all()
        kill_one.until(lambda: not leftovers.of(session.id))
        wrong += ["left: " + what for what in leftovers.of(session.id)]
        errors.seek(0)
        said = errors.read()
    if (job.returncode, numbers_free(output)) != (0, numbers_free(native.stdout.splitlines(True))):
        wrong.append(f"status {job.returncode}, {output!r}, natively {native.stdout!r}")
    home = "elsewhere: 1 child ran at home: its worker died before it started\n"
    if said not in ((native.stderr,) if case == "image" else (native.stderr, native.stderr + home)):
        wrong.append(f"standard error {said!r}")
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

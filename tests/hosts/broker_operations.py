#!/usr/bin/python3
"""What a session asks of Redis once its children run: nothing, whatever they say to each other and while they are idle.

Usage: broker_operations.py LAUNCHER

Redis's own count of commands is read before and after a few hundred hand-overs by semaphore, by pipe and by shared memory
between home and two workers, and around the waits between them. Only what one heartbeat of the session does may be added
(a script that refreshes the keys).
"""
import collections
import json
import socket
import subprocess
import sys
import tempfile

HEARTBEAT = {"evalsha", "exists", "expire", "smembers"}
JOB = """
import multiprocessing, sys
TURNS = 200
def serve(there, back, pipe, value):
    for _ in range(TURNS):
        there.acquire()
        value.value += 1
        back.release()
        pipe.send(pipe.recv() + 1)
context = multiprocessing.get_context("fork")
value = context.Value("i", 0, lock=False)
ends = []
for _ in range(2):
    there, back = context.Semaphore(0), context.Semaphore(0)
    here, far = context.Pipe()
    process = context.Process(target=serve, args=(there, back, far, value))
    process.start()
    ends.append((process, there, back, here))
def turn(number):
    for _, there, back, here in ends:
        there.release()
        back.acquire()
        here.send(number)
        assert here.recv() == number + 1
turn(0)
print("idle", flush=True)
sys.stdin.readline()
for number in range(1, TURNS):
    turn(number)
print("done", value.value, flush=True)
sys.stdin.readline()
for process, *_ in ends:
    process.join()
"""


def command_counts(path):
    """{command: how often Redis has executed it}, without the asking itself."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"INFO commandstats\r\n")
        reader = client.makefile("rb")
        text = reader.read(int(reader.readline()[1:])).decode()
    counts = collections.Counter()
    for line in text.splitlines():
        if line.startswith("cmdstat_"):
            name, fields = line[len("cmdstat_"):].split(":")
            counts[name] = int(fields.split(",")[0].split("=")[1])
    del counts["info"]
    return counts


def main():
    launcher = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory,
                                   "--logfile", ""], stdout=subprocess.PIPE, text=True)
        try:
            while "ready to accept" not in server.stdout.readline().lower():
                pass
            job = subprocess.Popen([launcher, "run", "--workers", "2", "--redis", "unix://" + path, "--stats=json", "--",
                                    "/usr/bin/python3", "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
            said = [job.stdout.readline()]
            before = command_counts(path)
            job.stdin.write("\n")
            job.stdin.flush()
            said.append(job.stdout.readline())
            added = command_counts(path) - before
            _, errors = job.communicate("\n")
        finally:
            server.kill()
            server.wait()
    statistics = json.loads(errors.splitlines()[-1]) if errors else {}
    print(said, "status", job.returncode, "added", dict(added), "since", sum(before.values()))
    wrong = []
    if said != ["idle\n", "done 400\n"] or job.returncode != 0 or statistics.get("forks_remote") != 2:
        wrong.append(f"the job: {errors}")
    if sum(before.values()) == 0:
        wrong.append("nothing was counted")
    if set(added) - HEARTBEAT or added["evalsha"] > 1:
        wrong.append("the broker was asked")
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Python's own ways of working together, natively and under elsewhere, in the same run.

Usage: bench_python.py [LAUNCHER] [queue synchronise sort idle]

queue   multiprocessing.Queue, 1 KB items from a child to its parent: put+get per second
synchronise
        two processes that hand over by a semaphore, a condition, a barrier, a JoinableQueue's put, join and task_done, a
        Pipe: two children on one worker beside native; parent and child, and children on two workers, in turns by
        semaphore of the same two
sort    5 million numbers by 64 processes, 16 on each of 4 hosts: in place in a shared array, with a local copy of each
        part, by pipes; natively the same on the same cores
idle    what a session with four waiting children asks of Redis in ten seconds

Native and remote runs alternate; the best of each is compared, since what disturbs them only makes them slower.
The exit status is 1 when a limit is missed.
"""
import os
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 3
ITEMS = 20000
HEARTBEAT = {"evalsha", "exists", "expire", "smembers"}
IDLE_SECONDS = 10


def figure(command):
    """The number that the command prints last."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=False)
    if done.returncode != 0:
        sys.exit(f"bench_python: {command}: status {done.returncode}")
    return float(done.stdout.split()[-1])


def compare(launcher, options, arguments, best):
    program = ["/usr/bin/python3", os.path.join(HERE, "programs.py")] + arguments
    native, remote = [], []
    for _ in range(ROUNDS):
        native.append(figure(program))
        remote.append(figure([launcher, "run", "--strict", *options, "--"] + program))
    return best(native), best(remote)


def judge(what, unit, native, remote, ratio, limit, good):
    print(f"{what:44} native {native:10.2f} {unit}, elsewhere {remote:10.2f} {unit}   {ratio:.2f} of native, "
          f"limit {limit}{'' if good else '  MISSED'}", flush=True)
    return good


def queue(launcher):
    native, remote = compare(launcher, ["--workers", "1"], ["queue", str(ITEMS)], max)
    return judge("multiprocessing.Queue, 1 KB put and get", "/s", native, remote, remote / native, ">= 0.5",
                 remote >= 0.5 * native)


def synchronise(launcher):
    good = True
    program = ["/usr/bin/python3", os.path.join(HERE, "programs.py"), "synchronise"]
    turns = {}
    for what in ("semaphore", "condition", "barrier", "queue", "pipe"):
        native, remote = compare(launcher, ["--workers", "1"], ["synchronise", what, "peers"], min)
        # The parent at home keeps the ends of a queue's pipe and of a Pipe, so these stay there.
        limit = None if what in ("queue", "pipe") else 2
        good &= judge(f"{what}, a turn of two children on one worker", "us", native, remote, remote / native,
                      f"<= {limit}" if limit else "none", limit is None or remote <= limit * native)
        for pair, where in (("home", "parent and child"), ("peers", "children on two workers")):
            took = min(figure([launcher, "run", "--strict", "--workers", "2", "--"] + program + [what, pair])
                       for _ in range(ROUNDS))
            turns.setdefault(pair, took)
            print(f"{what + ', ' + where:44} {took:10.2f} us   {took / turns[pair]:.1f} turns by semaphore", flush=True)
    return good


def sort(launcher):
    good = True
    for how in ("in-place", "local-copy", "pipes"):
        native, remote = compare(launcher, ["--workers", "4"], ["sort", how], min)
        good &= judge(f"sort of 5 M numbers, 64 processes, {how}", "s", native, remote, remote / native, "<= 1.5",
                      remote <= 1.5 * native)
    return good


def command_counts(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(b"INFO commandstats\r\n")
        reader = client.makefile("rb")
        text = reader.read(int(reader.readline()[1:])).decode()
    lines = [line[len("cmdstat_"):].split(":") for line in text.splitlines() if line.startswith("cmdstat_")]
    return {name: int(fields.split(",")[0].split("=")[1]) for name, fields in lines if name != "info"}


def idle(launcher):
    with tempfile.TemporaryDirectory() as directory:
        path = directory + "/redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", directory,
                                   "--logfile", ""], stdout=subprocess.PIPE, text=True)
        while "ready to accept" not in server.stdout.readline().lower():
            pass
        job = subprocess.Popen([launcher, "run", "--workers", "4", "--strict", "--redis", "unix://" + path, "--",
                                "/usr/bin/python3", os.path.join(HERE, "programs.py"), "idle"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
        job.stdout.readline()
        before = command_counts(path)
        time.sleep(IDLE_SECONDS)  # what is measured is a length of time
        after = command_counts(path)
        job.communicate("\n")
        server.kill()
        server.wait()
    added = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
    others = sum(count for name, count in added.items() if name not in HEARTBEAT)
    good = others == 0 and added.get("evalsha", 0) <= 1 + IDLE_SECONDS // 10 and job.returncode == 0
    print(f"{'idle session, four children that wait':44} {others / IDLE_SECONDS:.1f} operations/s at the broker beside "
          f"heartbeats ({added.get('evalsha', 0)}), limit 0{'' if good else '  MISSED'}")
    return good


def main():
    arguments = sys.argv[1:]
    launcher = os.path.join(HERE, "../../tools/elsewhere")
    if arguments and os.access(arguments[0], os.X_OK) and not os.path.isdir(arguments[0]):
        launcher = arguments.pop(0)
    kinds = {"queue": queue, "synchronise": synchronise, "sort": sort, "idle": idle}
    results = [kinds[kind](launcher) for kind in arguments or kinds]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

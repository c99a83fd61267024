#!/usr/bin/python3
"""What --stats says of each object that processes share: operations, within a host or across, and time blocked.

Usage: object_counts.py LAUNCHER
"""
import json
import subprocess
import sys

JOB = """
import _multiprocessing, multiprocessing, os
def serve(pipe, times):
    pipe.recv()
    for _ in range(times):
        lock.acquire()
        lock.release()
    pipe.send("done")
    gate.acquire()
context = multiprocessing.get_context("fork")
lock, gate = (_multiprocessing.SemLock(1, value, 1, f"/elsewhere-counts-{os.getpid()}-{value}", False) for value in (1, 0))
for semaphore in (lock, gate):
    _multiprocessing.sem_unlink(semaphore.name)
for _ in range(5):
    lock.acquire()
    lock.release()
here, far = context.Pipe()
child = context.Process(target=serve, args=(far, 7))
child.start()
here.send("go")
assert here.recv() == "done"
for _ in range(3):
    lock.acquire()
    lock.release()
gate.release()
child.join()
print(lock.name, gate.name, flush=True)
"""


def main():
    run = subprocess.run([sys.argv[1], "run", "--workers", "1", "--stats=json", "--", "/usr/bin/python3", "-c", JOB],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
    lock, gate = run.stdout.split()
    objects = {(each["kind"], each["name"]): each for each in json.loads(run.stderr)["objects"]}
    wrong = []

    # Where the child alone uses it, the semaphore is lent to its worker, and what it does there is within a host.
    found = objects.get(("semaphore", lock), {"here": 0, "across": 0, "blocked_nanoseconds": 0})
    if found["here"] < 2 * 5 or found["across"] < 1 or found["here"] + found["across"] != 2 * (5 + 7 + 3):
        wrong.append(f"{lock}: {found}")
    if found["blocked_nanoseconds"] <= 0:
        wrong.append(f"{lock}: no time")
    sockets = [each for each in objects.values() if each["kind"] == "socket"]
    if len(sockets) != 1 or sockets[0]["across"] < 3:  # the child has read twice, a header and what it is of, and written
        wrong.append(f"sockets: {sockets}")
    if objects.get(("semaphore", gate), {}).get("across", 0) < 2:  # trywait and wait, or trywait alone; post
        wrong.append(f"{gate}: {objects.get(('semaphore', gate))}")
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

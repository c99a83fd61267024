#!/usr/bin/env python3
"""Capture and restore of an image, without agents, broker or store, beside a native fork and wait.

bench_restore.py [BUILD_DIRECTORY]: uses the harness of tests/unit/image, whose worker maps chunks from the arena. Rounds
alternate; medians. Exit status 1 if a limit is missed.
"""
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "build", "release")
HARNESS = os.path.join(BUILD, "tests", "unit", "image")
PYTHON = "/usr/bin/python3"
ROUNDS = 5
FORKS = 40
# name, what the program does first, limits in ms (capture of a known image, restore) or None
PROGRAMS = [
    ("python3", "", (1.5, 1.0)),
    ("+ numpy", "import numpy", None),
    ("+ 64 MB", "import numpy; data = numpy.arange(8 << 20)", None),
]
WORKLOAD = """
import os, statistics, sys, time
{setup}
times = []
for _ in range({forks}):
    start = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    returned = time.perf_counter()
    os.waitpid(pid, 0)
    times.append((returned - start, time.perf_counter() - start))
print(*(statistics.median(column) * 1e3 for column in zip(*times)))
"""


def run(setup, remote):
    command = [PYTHON, "-c", WORKLOAD.format(setup=setup, forks=FORKS)]
    if remote:
        command = [os.path.join(HARNESS, "image_host"), "--report", "--expect", str(FORKS),
                   os.path.join(BUILD, "runtime", "elsewhere-restorer"), os.path.join(HARNESS, "libimage_shim.so"), "--",
                   *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stderr}")
    returned, waited = map(float, done.stdout.split())
    result = {"fork": returned, "wait": waited}
    if remote:
        report = json.loads(done.stderr)
        result["first"] = report["capture_ms"]["first"]
        for name in ("capture", "restore", "fork_to_running"):
            result[name] = report[name + "_ms"]["median"]
    return result


def median(rows, key):
    return sorted(row[key] for row in rows)[len(rows) // 2]


missed = False
print("ms, median of %d x %d forks" % (ROUNDS, FORKS))
print("%-10s %28s %42s" % ("", "native", "captured and restored in a worker"))
print("%-10s %14s %14s %8s %8s %8s %8s %8s %8s" % ("", "fork returns", "fork + wait", "returns", "capture", "(first)",
                                                   "restore", "running", "+ wait"))
for name, setup, limits in PROGRAMS:
    native, remote = [], []
    for _ in range(ROUNDS):
        native.append(run(setup, False))
        remote.append(run(setup, True))
    capture, restore = median(remote, "capture"), median(remote, "restore")
    print("%-10s %14.2f %14.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f" % (
        name, median(native, "fork"), median(native, "wait"), median(remote, "fork"), capture, median(remote, "first"),
        restore, median(remote, "fork_to_running"), median(remote, "wait")))
    if limits and (capture > limits[0] or restore > limits[1]):
        print("  limit missed: capture %.1f, restore %.1f" % limits)
        missed = True
sys.exit(1 if missed else 0)

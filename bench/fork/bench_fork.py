#!/usr/bin/python3
"""What a remote fork costs, each figure beside the native one of the same run.

Usage: bench_fork.py [LAUNCHER] [FIGURE...]    FIGURE: fork numpy sleep large (default: all)
Native and remote rounds alternate; medians are compared. Exit status 1 when a limit is missed.
"""
import json
import os
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LAUNCHER = os.path.join(HERE, "../../tools/elsewhere")
WORKLOAD = ["/usr/bin/python3", os.path.join(HERE, "workload.py")]
REPEATS = 5
ROUNDS = 20
missed = []


def run(*arguments, workers=None):
    """What the workload printed and, when it ran elsewhere, the session's statistics."""
    launcher = [LAUNCHER, "run", "--workers", str(workers), "--stats=json", "--"] if workers else []
    done = subprocess.run([*launcher, *WORKLOAD, *map(str, arguments)], capture_output=True, text=True, check=True,
                          timeout=300)
    return json.loads(done.stdout), json.loads(done.stderr.splitlines()[-1]) if workers else None


def row(what, native, remote, unit, limit="", good=True):
    if not good:
        missed.append(what)
    print(f"{what:44} {native:>10} {remote:>10} {unit:3} {limit:24} {'' if not limit else 'ok' if good else 'MISSED'}",
          flush=True)


def milliseconds(values):
    return statistics.median(values) / 1e6


def forks(name, *extra, limit_running):
    native = {"returned": [], "running": [], "waited": []}
    remote = {"returned": [], "running": [], "waited": []}
    run("fork", 2, *extra, workers=1)  # files into the page cache
    for _ in range(REPEATS):
        for figures, workers in ((native, None), (remote, 1)):
            figure, stats = run("fork", ROUNDS, *extra, workers=workers)
            if stats and stats["forks_remote"] != ROUNDS:
                raise SystemExit(f"only {stats['forks_remote']} of {ROUNDS} children ran remotely: {stats}")
            for key in figures:
                figures[key] += figure[key]
    for key, what, limit in (("returned", "fork returns in the parent", None),
                             ("running", "fork to running", limit_running),
                             ("waited", "fork, exit, wait", 15)):
        here, there = milliseconds(native[key]), milliseconds(remote[key])
        if limit is None:
            row(f"{name}: {what}", f"{here:.3f}", f"{there:.3f}", "ms", "<= 2 x native", there <= 2 * here)
        elif extra and key == "waited":
            row(f"{name}: {what}", f"{here:.3f}", f"{there:.3f}", "ms")
        else:
            row(f"{name}: {what}", f"{here:.3f}", f"{there:.3f}", "ms", f"<= {limit} ms", there <= limit)


def session_pss(marker):
    """Sum of the proportional set sizes, in MB, of all processes below the launcher with that pid."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parents[int(name)] = int(file.read().rpartition(") ")[2].split()[1])
        except OSError:
            continue

    def is_below(pid):
        while pid in parents and pid != marker:
            pid = parents[pid]
        return pid == marker

    total = 0
    count = 0
    for pid in filter(is_below, list(parents)):
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
            count += 1
        except (OSError, StopIteration):
            continue
    return total / 1024, count


def sleepers():
    children, seconds = 1024, 5
    native, _ = run("sleep", children, seconds)
    remote, stats = run("sleep", children, seconds, workers=4)
    row(f"{children} children sleep {seconds} s: started", f"{native['started'] / 1e9:.2f}", f"{remote['started'] / 1e9:.2f}", "s")
    row(f"{children} children sleep {seconds} s: done", f"{native['done'] / 1e9:.2f}", f"{remote['done'] / 1e9:.2f}", "s",
        "<= 8 s", remote["done"] <= 8e9 and not remote["failed"])
    row("of these at home", f"{native['at_home']}", f"{remote['at_home']}", "", "0",
        remote["at_home"] == 0 and stats["forks_local"] == 0 and stats["forks_remote"] == children)
    # A second run with a longer sleep: adding up the memory of some 2,000 processes takes a while itself.
    job = subprocess.Popen([LAUNCHER, "run", "--workers", "4", *WORKLOAD, "sleep", str(children), "20"],
                           stdout=subprocess.DEVNULL)
    time.sleep(10)
    megabytes, count = session_pss(job.pid)
    job.wait()
    row(f"memory (PSS) of {count} processes", "", f"{megabytes:.0f}", "MB", "<= 2000 MB",
        megabytes <= 2000 and count >= 2 * children)


def large():
    one = run("large", 256, 1, workers=1)[1]["bytes_shipped"] / 1e6
    two = run("large", 256, 2, workers=1)[1]["bytes_shipped"] / 1e6
    row("256 MB: shipped for the first fork", "", f"{one:.1f}", "MB")
    row("256 MB: shipped for the second fork", "", f"{two - one:.1f}", "MB", "<= 1/10 of the first", two - one <= one / 10)


def main():
    global LAUNCHER
    words = sys.argv[1:]
    if words and os.path.exists(words[0]):
        LAUNCHER = os.path.abspath(words.pop(0))
    figures = {"fork": lambda: forks("python3", limit_running=5), "numpy": lambda: forks("+ numpy", "numpy", limit_running=15),
               "sleep": sleepers, "large": large}
    print(f"{'':44} {'native':>10} {'elsewhere':>10}")
    for name in words or figures:
        figures[name]()
    for what in missed:
        print("missed:", what, file=sys.stderr)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()

#!/usr/bin/python3
"""Processes that share one object are killed at random under load, on two workers, or as many as
are said (programs/peers_killed.c).

Usage: kill_peers.py LAUNCHER PROGRAM KILLS [--seed N] [--seconds N] [--workers N] [OBJECT...]

Each object gets KILLS kills; with --seconds all of them again and again, with new seeds, until that time is over. The
program ends by itself, with the right count; its Redis, which is this test's, is empty afterwards, and nothing is left.
"""
import argparse
import os
import random
import subprocess
import sys
import time

import kill_one
import leftovers

OBJECTS = ["mq", "msg", "sem", "mutex", "plain", "rwlock", "spin", "semop", "pipe", "moved"]


def limit():
    """Seconds until what has not ended hangs; on a busy machine every process gets its time in shares."""
    return 60 * max(1.0, os.getloadavg()[0] / os.cpu_count())


def one(launcher, program, what, kills, seed, redis_path, workers):
    """What is wrong, line by line."""
    command = [launcher, "run", "--workers", str(workers), "--redis", "unix://" + redis_path, "--", program, what, str(kills),
               str(seed)]
    job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said = job.communicate(timeout=limit())[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        job.kill()
        said = "hangs: " + job.communicate()[0].decode(errors="replace")
    wrong = [] if job.returncode == 0 and said == "right\n" else [f"status {job.returncode}: {said}"]
    kill_one.until(lambda: not leftovers.keys(redis_path))
    wrong += ["left: " + key for key in leftovers.keys(redis_path)]
    return [f"{what}, {kills} kills, seed {seed}: {line}" for line in wrong]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("launcher")
    parser.add_argument("program")
    parser.add_argument("kills", type=int)
    parser.add_argument("objects", nargs="*", default=OBJECTS)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print("seed", options.seed, flush=True)
    generator, until, wrong = random.Random(options.seed), time.monotonic() + options.seconds, []
    with kill_one.external_redis(True) as redis_path:
        while True:
            seed = generator.randrange(1 << 31)
            for what in options.objects:
                wrong += one(options.launcher, options.program, what, options.kills, seed, redis_path,
                             options.workers)
            if wrong or time.monotonic() >= until:
                break
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

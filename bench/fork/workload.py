"""Runs below `bench_fork.py`, natively or elsewhere. Prints one JSON object on standard output.

Usage: workload.py fork ROUNDS [numpy] | sleep CHILDREN SECONDS | large MEGABYTES FORKS
Times are nanoseconds of CLOCK_MONOTONIC, which parent and child read on the same machine.
"""
import json
import os
import struct
import sys
import time


def now():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def one_fork(read_end, write_end):
    """(fork returned in the parent, the child ran, the child was waited for), since fork was called."""
    begin = now()
    child = os.fork()
    if child == 0:
        os.write(write_end, struct.pack("q", now()))
        os._exit(0)
    returned = now()
    os.waitpid(child, 0)
    waited = now()
    running = struct.unpack("q", os.read(read_end, 8))[0]
    return returned - begin, running - begin, waited - begin


def fork(rounds):
    read_end, write_end = os.pipe()
    figures = [one_fork(read_end, write_end) for _ in range(rounds)]
    return {name: [figure[index] for figure in figures] for index, name in enumerate(("returned", "running", "waited"))}


def sleep(children, seconds):
    """Each child says where it runs by its pid namespace."""
    read_end, write_end = os.pipe()
    home = os.readlink("/proc/self/ns/pid")
    begin = now()
    started = []
    for _ in range(children):
        child = os.fork()
        if child == 0:
            time.sleep(seconds)
            os.write(write_end, b"h" if os.readlink("/proc/self/ns/pid") == home else b"e")
            os._exit(0)
        started.append(child)
    loop = now()
    statuses = [os.waitpid(child, 0)[1] for child in started]
    end = now()
    os.close(write_end)
    places = b""
    while len(places) < children:
        places += os.read(read_end, 65536)
    return {"started": loop - begin, "done": end - begin, "failed": sum(status != 0 for status in statuses),
            "at_home": places.count(b"h"), "elsewhere": places.count(b"e")}


def large(megabytes, forks):
    data = bytearray(os.urandom(1 << 20) * megabytes)
    for index in range(megabytes):  # no two pages alike
        for page in range(256):
            struct.pack_into("q", data, (index << 20) + (page << 12), (index << 8) + page)
    for index in range(forks):
        data[index << 12] = 1
        child = os.fork()
        if child == 0:
            os._exit(len(data) >> 28)
        os.waitpid(child, 0)
    return {}


def main():
    kind, *arguments = sys.argv[1:]
    if "numpy" in arguments:
        import numpy  # noqa: F401: its memory is what is measured
    numbers = [int(argument) for argument in arguments if argument.isdigit()]
    print(json.dumps({"fork": fork, "sleep": sleep, "large": large}[kind](*numbers)), flush=True)


main()

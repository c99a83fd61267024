#!/usr/bin/python3
"""Malformed data in Redis while a Pool is busy: each key of the session is removed, replaced by one of another type, or
gets entries that no agent wrote.

Usage: broker_garbage.py LAUNCHER CASE [SEED]

CASE: missing | type | entries | bodies. The session ends with the right result, or ends within ten seconds with a message
that names the key; it never hangs, prints nothing wrong, nothing crashes and nothing is left.
"""
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

import leftovers
from broker_away import Server

SECONDS = 20
MUTATIONS = 6
JOB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pool_job.py")
EXPECTED = f"running\n{sum(number * number for number in range(400))}\n"


class Redis:
    """Commands with any bytes in them."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.answers = self.socket.makefile("rb")

    def __call__(self, *arguments):
        parts = [each.encode() if isinstance(each, str) else each for each in arguments]
        self.socket.sendall(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in parts))
        return self.answer()

    def answer(self):
        line = self.answers.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-":
            raise ValueError(rest.decode())
        return rest

    def session_keys(self):
        return sorted(key for key in leftovers.keys(self.path) if key.startswith("elsewhere:{"))


def mutation(chance, number, seen):
    """Bytes unlike and like those that agents send."""
    if number == 0:
        return b""
    if number == 1:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(1, 200)))
    if number == 2:
        return seen[:chance.randrange(len(seen))]
    if number == 3:
        return seen + b"\0" * 9
    changed = bytearray(seen)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def newest(redis, key):
    """Header (sender, number) and body of the newest entry; there may be none now."""
    found = redis("XREVRANGE", key, "+", "-", "COUNT", "1")
    return found[0][1] if found else (bytes(12), b"nothing seen")


def next_header(header):
    """What the sender would put before its next message."""
    sender, number = struct.unpack("<IQ", header)
    return struct.pack("<IQ", sender, number + 1)


def harms(case, redis, chance):
    """(name, what to do) for every way of harming the keys that there are now."""
    for key in redis.session_keys():
        if case == "missing":
            yield f"{key} removed", lambda key=key: redis("DEL", key)
        elif case == "type":
            yield f"{key} a string", lambda key=key: redis("SET", key, "garbage")
        elif ":inbox:" in key:
            if case == "entries":
                yield f"{key} field", lambda key=key: redis("XADD", key, "*", "nobody", "knows")
                yield f"{key} fields", lambda key=key: redis("XADD", key, "*", "a", "1", "b", "2", "c", "3")
                continue
            for number in range(MUTATIONS):
                def act(key=key, number=number):
                    header, seen = newest(redis, key)
                    redis("XADD", key, "*", next_header(header), mutation(chance, number, seen))
                yield f"{key} body {number}", act


def run(launcher, directory, server, harm_name, choose):
    """One session that is harmed once: what went wrong, as text."""
    redis = Redis(server.path)
    with open(os.path.join(directory, "errors"), "w+", encoding="utf-8") as errors_file:
        job = subprocess.Popen([launcher, "run", "--workers", "2", "--redis", f"unix://{server.path}", "--",
                                "/usr/bin/python3", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors_file,
                               text=True)
        output = job.stdout.readline()
        key = next(iter(redis.session_keys()), "")
        session = key[key.find("{") + 1:key.find("}")] or "no session"
        name = choose(redis)
        wrong = []
        try:
            output += job.communicate(input="", timeout=SECONDS)[0]
        except subprocess.TimeoutExpired:
            wrong.append(f"not ended after {SECONDS} s")
            for pid in [*leftovers.of_session(session), job.pid]:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            output += job.communicate()[0]
        errors_file.seek(0)
        errors = errors_file.read()
        said = [line for line in errors.splitlines() if "elsewhere" in line]
        print(f"{name.replace(session, '...')}: status {job.returncode}; {said[:1]}".replace(session, "..."), flush=True)
        if job.returncode == 0:
            wrong += [] if output == EXPECTED else [f"a wrong result {output!r}"]
        else:
            wrong += [] if EXPECTED.startswith(output) else [f"a wrong result {output!r}"]
            wrong += [] if f"{{{session}}}:" in errors else [f"no message that names a key: {errors!r}"]
        if re.search(r"signal (4|6|8|11)\b|terminate called|Sanitizer", errors):
            wrong.append(f"a crash: {errors!r}")
        end = time.monotonic() + 5
        while leftovers.of(session) and time.monotonic() < end:
            time.sleep(0.05)
        return [f"{name}: {each}" for each in wrong + ["left: " + what for what in leftovers.of(session)]]


def main():
    launcher, case = sys.argv[1:3]
    os.environ["ELSEWHERE_MESSAGES"] = "broker"
    chance = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    wrong, done, total = [], 0, 1
    with tempfile.TemporaryDirectory() as directory:
        server = Server(directory)
        try:
            while done < total:
                def choose(redis, number=done):
                    nonlocal total
                    all_of = list(harms(case, redis, chance))
                    total = len(all_of)
                    name, act = all_of[min(number, total - 1)]
                    act()
                    return name
                wrong += run(launcher, directory, server, case, choose)
                Redis(server.path)("FLUSHALL")
                done += 1
        finally:
            server.stop()
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong or not done else 0)


if __name__ == "__main__":
    main()

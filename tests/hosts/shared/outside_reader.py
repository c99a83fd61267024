#!/usr/bin/python3
"""Usage: outside_reader.py LAUNCHER PROGRAM

A sem_trywait never waits: not for what a semaphore's poster elsewhere wrote before into a pipe that is full, and that
somebody reads who is not of the session, and only when he has seen the answer.
"""
import subprocess
import sys

WRITTEN = 100 << 10
ANSWERS = b"-1 1\n" * 20 + b"read\n"


def run(command):
    """(answers on standard error, bytes, status)"""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        answers = b""
        while not answers.endswith(b"read\n"):
            line = process.stderr.readline()
            if not line:
                break
            answers += line
        count = len(process.stdout.read())
        process.stderr.read()
        return answers, count, process.wait()


launcher, program = sys.argv[1:]
for command in [program], [launcher, "run", "--workers", "1", "--strict", "--", program]:
    found = run(command)
    if found != (ANSWERS, WRITTEN, 0):
        raise SystemExit(f"{command}: {found}")

# forks: 2
"""Signals reach a child that waits for input from home, and what it did not read is still there afterwards."""
import os
import select
import signal
import sys
import time


class Alarm(Exception):
    pass


def on_alarm(_signal, _frame):
    raise Alarm


def interrupted(wait):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        wait()
        return False
    except Alarm:
        return True


read_end, write_end = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGALRM, on_alarm)
    print("read", interrupted(lambda: os.read(read_end, 10)))
    print("select", interrupted(lambda: select.select([read_end], [], [])))
    sys.stdout.flush()
    print("then", os.read(read_end, 10))
    sys.stdout.flush()
    os._exit(0)
time.sleep(1)
os.write(write_end, b"token")
print("status", os.waitpid(child, 0)[1])
sys.stdout.flush()

child = os.fork()
if child == 0:
    os.read(read_end, 10)
    os._exit(1)
time.sleep(0.3)
os.kill(child, signal.SIGTERM)
print("status", os.waitpid(child, 0)[1])
time.sleep(0.2)
os.write(write_end, b"left")
print(os.read(read_end, 10))

# forks: 2
"""Signals reach a child that waits for input from home, and what it did not read is still there afterwards."""
import os
import select
import signal
import sys


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
heard, told = os.pipe()
child = os.fork()
if child == 0:
    signal.signal(signal.SIGALRM, on_alarm)
    print("read", interrupted(lambda: os.read(read_end, 10)))
    print("select", interrupted(lambda: select.select([read_end], [], [])))
    sys.stdout.flush()
    os.write(told, b"i")
    print("then", os.read(read_end, 10))
    sys.stdout.flush()
    os._exit(0)
os.read(heard, 1)
os.write(write_end, b"token")
print("status", os.waitpid(child, 0)[1])
sys.stdout.flush()

child = os.fork()
if child == 0:
    # The handler runs while os.read waits, which is resumed afterwards.
    signal.signal(signal.SIGALRM, lambda _signal, _frame: os.write(told, b"w"))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    os.read(read_end, 10)
    os._exit(1)
os.read(heard, 1)
os.kill(child, signal.SIGTERM)
print("status", os.waitpid(child, 0)[1])
os.write(write_end, b"left")
print(os.read(read_end, 10))

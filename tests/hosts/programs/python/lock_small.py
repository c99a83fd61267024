# forks: 4
"""Messages of two small writes each stay whole where workers and a thread at home write to one pipe in turn under a
lock, and the pipe is full: nobody gets the lock before what its holder wrote is in."""
import multiprocessing
import os
import threading
import time

MESSAGES, BYTES = 150, 2_000


def write(end, lock, number):
    for _ in range(MESSAGES):
        with lock:
            os.write(end, bytes([number]))
            os.write(end, bytes([number]) * BYTES)


def read(end, count):
    got = b""
    while len(got) < count:
        got += os.read(end, count - len(got))
    return got


if __name__ == "__main__":
    here, there = os.pipe()
    lock = multiprocessing.Lock()
    processes = [multiprocessing.Process(target=write, args=(there, lock, number)) for number in range(4)]
    for process in processes:
        process.start()
    thread = threading.Thread(target=write, args=(there, lock, 9))
    thread.start()
    whole = 0
    for message in range(MESSAGES * 5):
        whole += len(set(read(here, 1 + BYTES))) == 1
        if message % 10 == 0:
            time.sleep(0.01)
    thread.join()
    for process in processes:
        process.join()
    print(whole)

# forks: 4
"""Messages larger than a pipe stay whole where workers and a thread at home write to it in turn under a lock, and its
reader takes its time: nobody gets the lock before what its holder wrote is in."""
import multiprocessing
import threading
import time

MESSAGES, BYTES, SECONDS = 6, 150_000, 0.1


def write(connection, lock, number):
    for _ in range(MESSAGES):
        with lock:
            connection.send_bytes(bytes([number]) * BYTES)


if __name__ == "__main__":
    here, there = multiprocessing.Pipe(False)
    lock = multiprocessing.Lock()
    processes = [multiprocessing.Process(target=write, args=(there, lock, number)) for number in range(4)]
    for process in processes:
        process.start()
    thread = threading.Thread(target=write, args=(there, lock, 9))
    thread.start()
    whole = 0
    for _ in range(MESSAGES * 5):
        message = here.recv_bytes()
        whole += len(message) == BYTES and len(set(message)) == 1
        time.sleep(SECONDS)
    thread.join()
    for process in processes:
        process.join()
    print(whole)

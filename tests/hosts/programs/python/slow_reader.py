# forks: 7
"""A reader that takes its time between messages gets all of them before its parent's last word, although the parent
wrote that as soon as the writers had ended."""
import multiprocessing
import os
import time

MESSAGE, MESSAGES, WRITERS = 2000, 500, 6


def write(pipe, lock):
    for i in range(MESSAGES):
        with lock:
            os.write(pipe, b"%04d" % i + b"x" * (MESSAGE - 4))


def read(pipe, result):
    got = 0
    while True:
        message = b""
        while len(message) < MESSAGE:
            message += os.read(pipe, MESSAGE - len(message))
        if message.startswith(b"last"):
            break
        if got % 300 == 0:
            time.sleep(1.2)
        got += 1
    os.write(result, b"%d" % got)


if __name__ == "__main__":
    messages, result, lock = os.pipe(), os.pipe(), multiprocessing.Lock()
    reader = multiprocessing.Process(target=read, args=(messages[0], result[1]))
    writers = [multiprocessing.Process(target=write, args=(messages[1], lock)) for _ in range(WRITERS)]
    for process in [reader, *writers]:
        process.start()
    for process in writers:
        process.join()
    os.write(messages[1], b"last" + b"y" * (MESSAGE - 4))
    print(os.read(result[0], 100))
    reader.join()

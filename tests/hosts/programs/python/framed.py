# forks: 9
"""Readers of two hosts and their parent share pipes: one of messages with their length, which each takes under a lock, and
ones of numbers of four bytes, which nobody locks and which must not be taken for lengths."""
import multiprocessing
import os
import struct
import threading

MESSAGES = 400
context = multiprocessing.get_context("fork")


def take_all(queue, results):
    count = total = 0
    while True:
        message = queue.get()
        if message is None:
            break
        count, total = count + 1, total + len(message)
    results.put((count, total))


queue, results = context.SimpleQueue(), context.SimpleQueue()
readers = [context.Process(target=take_all, args=(queue, results)) for _ in range(3)]
for reader in readers:
    reader.start()
readers.append(threading.Thread(target=take_all, args=(queue, results)))
readers[-1].start()
sent = 0
for number in range(MESSAGES):
    message = b"x" * (number * 7 % 300 if number % 40 else 50000)
    queue.put(message)
    sent += len(message)
for reader in readers:
    queue.put(None)
parts = [results.get() for _ in readers]
for reader in readers:
    reader.join()
print("messages", sum(count for count, _ in parts), "bytes as sent", sum(total for _, total in parts) == sent)


def take_numbers(pipe, writer, back, wanted):
    os.close(writer)
    wrong = count = 0
    while True:
        record = os.read(pipe, 4)
        if not record:
            break
        count += 1
        wrong += record != struct.pack("!i", wanted)
    os.write(back, struct.pack("!ii", count, wrong))


for wanted in (4, 8, 12):
    pipe, writer = os.pipe()
    answers, back = os.pipe()
    readers = [context.Process(target=take_numbers, args=(pipe, writer, back, wanted)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(300):
        os.write(writer, struct.pack("!i", wanted) * 3)
    os.close(writer)
    mine = 0
    while os.read(pipe, 4):
        mine += 1
    parts = [struct.unpack("!ii", os.read(answers, 8)) for _ in readers]
    for reader in readers:
        reader.join()
    print(wanted, "numbers", mine + sum(count for count, _ in parts), "wrong", sum(wrong for _, wrong in parts))

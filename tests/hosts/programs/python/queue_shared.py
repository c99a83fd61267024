# forks: 5
"""One Queue of several producers and consumers, with more in it than a pipe holds: a consumer's release of the
queue's lock does not wait for what the producers beside it have written, which only the next consumer makes room for."""
import multiprocessing

PRODUCERS, CONSUMERS, MESSAGES = 3, 2, 3000


def produce(queue, number):
    for i in range(MESSAGES):
        queue.put((number, i, b"x" * 2000))


def consume(queue, result):
    last = [-1] * PRODUCERS
    in_order = got = 0
    while (message := queue.get()) is not None:
        number, i, _ = message
        in_order += last[number] < i
        last[number] = i
        got += 1
    result.put((got, in_order))


if __name__ == "__main__":
    queue, result = multiprocessing.Queue(), multiprocessing.Queue()
    consumers = [multiprocessing.Process(target=consume, args=(queue, result)) for _ in range(CONSUMERS)]
    producers = [multiprocessing.Process(target=produce, args=(queue, number)) for number in range(PRODUCERS)]
    for process in consumers + producers:
        process.start()
    for process in producers:
        process.join()
    for _ in consumers:
        queue.put(None)
    counts = [result.get() for _ in consumers]
    print([sum(each) for each in zip(*counts)])
    for process in consumers:
        process.join()

# forks: 7
"""multiprocessing Queue, SimpleQueue and JoinableQueue with several producers and consumers."""
import multiprocessing
import queue

mp = multiprocessing.get_context("fork")


def consume(tasks, results):
    for number in iter(tasks.get, None):
        results.put(number * number)


def consume_joinable(tasks, results):
    while True:
        item = tasks.get()
        if item is not None:
            results.put(item + 1)
        tasks.task_done()
        if item is None:
            break


def relay(incoming, outgoing):
    while (item := incoming.get()) is not None:
        outgoing.put(item)


def main():
    tasks, results = mp.Queue(), mp.Queue()
    children = [mp.Process(target=consume, args=(tasks, results)) for _ in range(3)]
    for child in children:
        child.start()
    for number in range(200):
        tasks.put(number)
    for _ in children:
        tasks.put(None)
    print(sum(results.get(timeout=60) for _ in range(200)))
    for child in children:
        child.join()
    print([child.exitcode for child in children])
    try:
        results.get(timeout=0.1)
    except queue.Empty:
        print("empty")

    small = mp.Queue(1)
    small.put("only")
    try:
        small.put("more", block=False)
    except queue.Full:
        print("full", small.get(timeout=60))

    incoming, outgoing = mp.SimpleQueue(), mp.SimpleQueue()
    child = mp.Process(target=relay, args=(incoming, outgoing))
    child.start()
    for item in ("a", {"b": 2}, "c" * 100_000):
        incoming.put(item)
        print(outgoing.get() == item)
    incoming.put(None)
    child.join()

    joinable, done = mp.JoinableQueue(), mp.Queue()
    children = [mp.Process(target=consume_joinable, args=(joinable, done)) for _ in range(3)]
    for child in children:
        child.start()
    for number in range(30):
        joinable.put(number)
    for _ in children:
        joinable.put(None)
    joinable.join()
    print(sorted(done.get(timeout=60) for _ in range(30)))
    for child in children:
        child.join()


if __name__ == "__main__":
    main()

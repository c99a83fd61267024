"""What bench_python.py runs, natively and under elsewhere. Each prints its figure.

programs.py queue ITEMS | sort in-place | sort local-copy | sort pipes | idle | synchronise WHAT home | synchronise WHAT peers
"""
import multiprocessing
import random
import sys
import time

NUMBERS = 5_000_000
PROCESSES = 64
CONTEXT = multiprocessing.get_context("fork")


# ---- Queue

def put_items(queue, items, start):
    item = b"x" * 1024
    start.wait()
    for _ in range(items):
        queue.put(item)


def measure_queue(items):
    queue, start = CONTEXT.Queue(), CONTEXT.Event()
    child = CONTEXT.Process(target=put_items, args=(queue, items, start))
    child.start()
    start.set()
    queue.get()
    began = time.perf_counter()
    for _ in range(items - 1):
        queue.get()
    print((items - 1) / (time.perf_counter() - began))
    child.join()


# ---- Two processes that hand over again and again

TURNS = 1000


def semaphore_turns():
    there, back = CONTEXT.Semaphore(0), CONTEXT.Semaphore(0)

    def first():
        there.release()
        back.acquire()

    def second():
        there.acquire()
        back.release()
    return first, second


def condition_turns():
    condition, turn = CONTEXT.Condition(), CONTEXT.RawValue("i", 0)

    def take(mine):
        with condition:
            while turn.value != mine:
                condition.wait()
            turn.value = 1 - mine
            condition.notify()
    return (lambda: take(0)), (lambda: take(1))


def barrier_turns():
    barrier = CONTEXT.Barrier(2)
    return barrier.wait, barrier.wait


def queue_turns():
    queue = CONTEXT.JoinableQueue()

    def first():
        queue.put(1)
        queue.join()

    def second():
        queue.get()
        queue.task_done()
    return first, second


def pipe_turns():
    here, there = CONTEXT.Pipe()

    def first():
        here.send(1)
        here.recv()

    def second():
        there.send(there.recv())
    return first, second


def repeat(action, times):
    for _ in range(times):
        action()


def time_turns(action, connection):
    action()
    began = time.perf_counter()
    repeat(action, TURNS)
    connection.send((time.perf_counter() - began) / TURNS * 1e6)


# Microseconds a turn. home: between this process and its child; peers: between two children.
def measure_turns(what, pair):
    first, second = {"semaphore": semaphore_turns, "condition": condition_turns, "barrier": barrier_turns,
                     "queue": queue_turns, "pipe": pipe_turns}[what]()
    result, end = CONTEXT.Pipe(False)
    children = [CONTEXT.Process(target=repeat, args=(second, TURNS + 1))]
    if pair == "peers":
        children.append(CONTEXT.Process(target=time_turns, args=(first, end)))
    for child in children:
        child.start()
    if pair == "home":
        time_turns(first, end)
    print(result.recv())
    for child in children:
        child.join()


# ---- Sorting: every process sorts its part, then half of them merge pairs of parts, until there is one

def bounds(part, parts):
    return NUMBERS * part // parts, NUMBERS * (part + 1) // parts


def merge_runs(one, other):
    return sorted(one + other)  # two runs: linear in Python's sort


def sift_down(array, low, root, size):
    value = array[low + root]
    while True:
        child = 2 * root + 1
        if child >= size:
            break
        if child + 1 < size and array[low + child] < array[low + child + 1]:
            child += 1
        if array[low + child] <= value:
            break
        array[low + root] = array[low + child]
        root = child
    array[low + root] = value


def heap_sort(array, low, high):
    """In place, without a copy: every comparison and every exchange is one of the shared memory."""
    size = high - low
    for root in range(size // 2 - 1, -1, -1):
        sift_down(array, low, root, size)
    for end in range(size - 1, 0, -1):
        array[low], array[low + end] = array[low + end], array[low]
        sift_down(array, low, 0, end)


def sort_part(array, part, in_place):
    low, high = bounds(part, PROCESSES)
    if in_place:
        heap_sort(array, low, high)
    else:
        array[low:high] = sorted(array[low:high])


def merge_parts(array, part, parts):
    low, _ = bounds(2 * part, parts)
    middle, high = bounds(2 * part + 1, parts)
    array[low:high] = merge_runs(array[low:middle], array[middle:high])


def run_all(target, arguments):
    processes = [CONTEXT.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode != 0 for process in processes):
        sys.exit("a process failed")


def sort_shared(numbers, in_place):
    array = CONTEXT.RawArray("i", NUMBERS)
    array[:] = numbers
    began = time.perf_counter()
    run_all(sort_part, [(array, part, in_place) for part in range(PROCESSES)])
    parts = PROCESSES
    while parts > 1:
        run_all(merge_parts, [(array, part, parts) for part in range(parts // 2)])
        parts //= 2
    return time.perf_counter() - began, array[:]


def sort_from_pipe(connection):
    connection.send(sorted(connection.recv()))
    connection.close()


def sort_pipes(numbers):
    began = time.perf_counter()
    children = []
    for part in range(PROCESSES):
        here, there = CONTEXT.Pipe()
        child = CONTEXT.Process(target=sort_from_pipe, args=(there,))
        child.start()
        there.close()
        children.append((child, here))
    for part, (_, here) in enumerate(children):
        low, high = bounds(part, PROCESSES)
        here.send(numbers[low:high])
    runs = [here.recv() for _, here in children]
    for child, _ in children:
        child.join()
    while len(runs) > 1:
        runs = [merge_runs(runs[i], runs[i + 1]) for i in range(0, len(runs), 2)]
    return time.perf_counter() - began, runs[0]


def measure_sort(how):
    random.seed(4)
    numbers = [random.randrange(1 << 30) for _ in range(NUMBERS)]
    took, result = sort_pipes(numbers) if how == "pipes" else sort_shared(numbers, how == "in-place")
    if result != sorted(numbers):
        sys.exit("not sorted")
    print(took)


# ---- Idle

def wait_for(event, ready):
    ready.release()
    event.wait()


def measure_idle():
    event, ready = CONTEXT.Event(), CONTEXT.Semaphore(0)
    children = [CONTEXT.Process(target=wait_for, args=(event, ready)) for _ in range(4)]
    for child in children:
        child.start()
    for _ in children:
        ready.acquire()
    print("idle", flush=True)
    sys.stdin.readline()
    event.set()
    for child in children:
        child.join()


if __name__ == "__main__":
    if sys.argv[1] == "queue":
        measure_queue(int(sys.argv[2]))
    elif sys.argv[1] == "sort":
        measure_sort(sys.argv[2])
    elif sys.argv[1] == "synchronise":
        measure_turns(sys.argv[2], sys.argv[3])
    else:
        measure_idle()

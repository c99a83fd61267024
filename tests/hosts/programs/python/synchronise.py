# forks: 18
"""Lock, RLock, Semaphore, BoundedSemaphore, Event, Condition and Barrier between processes."""
import multiprocessing
import sys

mp = multiprocessing.get_context("fork")


def add_under(lock, total, times):
    for _ in range(times):
        with lock:
            total.value += 1


def nested(lock, total):
    with lock:
        with lock:
            total.value += 1


def enter(semaphore, inside, most, lock):
    with semaphore:
        with lock:
            inside.value += 1
            most.value = max(most.value, inside.value)
        with lock:
            inside.value -= 1


def wait_event(event, reports):
    reports.put(event.wait(60))


def wait_condition(condition, ready, state):
    with condition:
        ready.release()
        condition.wait_for(lambda: state.value == 1, 60)
        state.value = 2
        condition.notify_all()


def meet(barrier, reports):
    reports.put(barrier.wait(60))


def run(target, arguments, count):
    children = [mp.Process(target=target, args=arguments) for _ in range(count)]
    for child in children:
        child.start()
    return children


def join(children):
    for child in children:
        child.join()
    print([child.exitcode for child in children], flush=True)


def main():
    total = mp.Value("i", 0, lock=False)
    join(run(add_under, (mp.Lock(), total, 50), 4))
    print("lock", total.value)

    total = mp.Value("i", 0, lock=False)
    join(run(nested, (mp.RLock(), total), 3))
    print("rlock", total.value)

    inside, most = mp.Value("i", 0, lock=False), mp.Value("i", 0, lock=False)
    join(run(enter, (mp.Semaphore(2), inside, most, mp.Lock()), 4))
    print("semaphore", inside.value, 1 <= most.value <= 2)

    bounded = mp.BoundedSemaphore(1)
    bounded.acquire()
    print("busy", bounded.acquire(block=False), bounded.acquire(timeout=0.05))
    bounded.release()
    try:
        bounded.release()
    except ValueError as error:
        print("error", error)

    event, reports = mp.Event(), mp.Queue()
    children = run(wait_event, (event, reports), 3)
    event.set()
    print("event", [reports.get(timeout=60) for _ in children])
    join(children)

    condition, ready, state = mp.Condition(), mp.Semaphore(0), mp.Value("i", 0, lock=False)
    children = run(wait_condition, (condition, ready, state), 1)
    ready.acquire()
    with condition:
        state.value = 1
        condition.notify()
        condition.wait_for(lambda: state.value == 2, 60)
    print("condition", state.value)
    join(children)

    barrier, reports = mp.Barrier(3), mp.Queue()
    children = run(meet, (barrier, reports), 3)
    print("barrier", sorted(reports.get(timeout=60) for _ in children))
    join(children)


if __name__ == "__main__":
    sys.setswitchinterval(0.001)
    main()

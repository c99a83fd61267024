# forks: 2
"""A child that wrote nothing is joined although another child's bytes, in a pipe that both hold, are read by nobody yet."""
import multiprocessing
import os
import select


def await_full(pipe):
    """Returns when nothing more goes into the pipe."""
    while select.select([], [pipe], [], 0)[1]:
        os.sched_yield()


def big(queue):
    queue.put(b"x" * 3000000)


def short():
    pass


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    writer = multiprocessing.Process(target=big, args=(queue,))
    writer.start()
    await_full(queue._writer)
    other = multiprocessing.Process(target=short)
    other.start()
    other.join()
    print("joined", other.exitcode)
    print(len(queue.get()))
    writer.join()
    print(writer.exitcode)

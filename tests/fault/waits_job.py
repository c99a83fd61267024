"""Children that wait in every way at once: for a pipe by read and by poll, for a semaphore, for a child of their own.

Says `running` when all do, lives until standard input ends, lets them go and prints what they got.
"""
import multiprocessing
import os
import select
import sys


def main():
    news, tell = os.pipe()
    pipes = [os.pipe() for _ in range(3)]
    semaphore = multiprocessing.Semaphore(0)

    def poll(fd):
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        waiting.poll()
        return len(os.read(fd, 10))

    def grandchild(fd):
        child = os.fork()
        if child == 0:
            os._exit(len(os.read(fd, 10)))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def acquire():
        semaphore.acquire()
        return 9

    children = []
    for wait in (lambda: len(os.read(pipes[0][0], 10)), lambda: poll(pipes[1][0]), lambda: grandchild(pipes[2][0]),
                 acquire):
        child = os.fork()
        if child == 0:
            os.write(tell, b"w")
            os._exit(wait())
        children.append(child)
    for _ in children:
        os.read(news, 1)
    print("running", flush=True)
    sys.stdin.read()
    for size, (_, write) in enumerate(pipes):
        os.write(write, b"x" * (size + 1))
    semaphore.release()
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])


main()

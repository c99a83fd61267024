"""Children that say their result by their exit status only.

Usage: fork_job.py [CHILDREN]
Four run at a time; early on, when "running" was printed, four stay until standard input ends.
"""
import os
import signal
import sys

HELD = range(20, 24)


def start(number):
    child = os.fork()
    if child == 0:
        if number in HELD:
            signal.sigwait({signal.SIGUSR1})
        os._exit(number % 100)
    return child


def result(child):
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        sys.exit(f"a child was killed by signal {os.WTERMSIG(status)}")
    return os.WEXITSTATUS(status)


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    total = 0
    for first in range(0, int(sys.argv[1]) if len(sys.argv) > 1 else 80, 4):
        running = [start(number) for number in range(first, first + 4)]
        if first == HELD.start:
            print("running", flush=True)
            sys.stdin.read()
            for child in running:
                os.kill(child, signal.SIGUSR1)
        total += sum(result(child) for child in running)
    print(total, flush=True)


main()

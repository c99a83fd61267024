"""A busy Pool that says `running` when work is under way everywhere, and lives until standard input ends."""
import multiprocessing
import sys
import time


def work(number):
    time.sleep(0.02)
    return number * number


def main():
    total = 0
    with multiprocessing.Pool(4) as pool:
        for index, value in enumerate(pool.imap(work, range(400))):
            if index == 20:
                print("running", flush=True)
                sys.stdin.read()
            total += value
    print(total, flush=True)


main()

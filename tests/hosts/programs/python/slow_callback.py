# forks: 4
"""A Pool's results come whole and once, though its parent takes its time over each and the pipe of results is full
meanwhile: the lock that a worker process releases is not given to one of another host before what it wrote."""
import multiprocessing
import time

MESSAGES, BYTES, SECONDS = 45, 150_000, 0.15


def result(number):
    return bytes([number]) * (BYTES + number)


if __name__ == "__main__":
    got = []

    def take(data):
        got.append((data[0], len(data) - BYTES, len(set(data))))
        time.sleep(SECONDS)

    with multiprocessing.Pool(4) as pool:
        results = [pool.apply_async(result, (number,), callback=take) for number in range(MESSAGES)]
        for each in results:
            each.wait()
        pool.close()
        pool.join()
    print(sorted(got) == [(number, number, 1) for number in range(MESSAGES)])

# forks: 7
"""multiprocessing.Pool: every method, exceptions included."""
import multiprocessing
import os

mp = multiprocessing.get_context("fork")


def square(x):
    return x * x


def add(x, y):
    return x + y


def divide(x):
    return 10 // x


def set_up(value):
    global base
    base = value


def with_base(x):
    return base + x


def main():
    with mp.Pool(3) as pool:
        print(pool.apply(add, (1, 2)), pool.apply_async(add, (3, 4)).get(30))
        print(pool.map(square, range(20)), pool.map(square, range(10), chunksize=3))
        print(pool.map_async(square, range(5)).get(30))
        print(list(pool.imap(square, range(10))), sorted(pool.imap_unordered(square, range(50), chunksize=4)))
        print(pool.starmap(add, [(1, 1), (2, 2)]), pool.starmap_async(add, [(3, 3)]).get(30))
        try:
            pool.map(divide, [5, 0])
        except ZeroDivisionError as error:
            print("error", error)
        seen = []
        pool.apply_async(square, (7,), callback=seen.append).wait()
        pool.apply_async(divide, (0,), error_callback=lambda error: seen.append(str(error))).wait()
        pool.close()
        pool.join()
        print(seen)
    with mp.Pool(2, initializer=set_up, initargs=(100,)) as pool:
        print(pool.map(with_base, range(3)))
        print(len(b"".join(pool.map(bytes, [1 << 20, 2 << 20]))))
    with mp.Pool(2) as pool:
        print(len(set(pool.map(pid_of, range(8), chunksize=1))) <= 2)


def pid_of(_):
    return os.getpid()


if __name__ == "__main__":
    main()

# forks: 9
"""Value and Array, with and without their locks, written by children and seen by the parent and by each other."""
import ctypes
import multiprocessing

mp = multiprocessing.get_context("fork")


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]


def count(value, times):
    for _ in range(times):
        with value.get_lock():
            value.value += 1


def fill(array, start, step):
    for index in range(start, len(array), step):
        array[index] = index * index


def work(number, array, points):
    number.value = 3.1415927
    for index in range(len(array)):
        array[index] = -array[index]
    for point in points:
        point.x **= 2
        point.y **= 2


def main():
    value = mp.Value("q", 0)
    children = [mp.Process(target=count, args=(value, 100)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(value.value)

    raw = mp.Array("i", 5000, lock=False)
    children = [mp.Process(target=fill, args=(raw, start, 4)) for start in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(sum(raw), list(raw[:10]))

    number, array = mp.Value("d", 0.0), mp.Array("i", range(10))
    points = mp.Array(Point, [(1.5, -6.25), (-5.75, 2.0)])
    child = mp.Process(target=work, args=(number, array, points))
    child.start()
    child.join()
    print(number.value, array[:], [(point.x, point.y) for point in points])


if __name__ == "__main__":
    main()

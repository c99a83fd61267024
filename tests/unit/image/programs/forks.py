"""forks.py COUNT [ELEMENTS]: forks COUNT times, with a numpy array of ELEMENTS where given; children check memory."""
import os
import sys

count = int(sys.argv[1])
numbers = None
if len(sys.argv) > 2:
    import numpy
    numbers = numpy.arange(int(sys.argv[2]))
words = {i: str(i) for i in range(1000)}
namespace = os.readlink("/proc/self/ns/pid")


def child():
    if "IMAGE_TEST_SOCKET" in os.environ and os.readlink("/proc/self/ns/pid") == namespace:
        return 9
    if sum(len(word) for word in words.values()) != 2890:
        return 8
    if numbers is not None and int(numbers.sum()) != len(numbers) * (len(numbers) - 1) // 2:
        return 7
    words.clear()
    return 3


for i in range(count):
    pid = os.fork()
    if pid == 0:
        os._exit(child())
    status = os.waitpid(pid, 0)[1]
    if os.waitstatus_to_exitcode(status) != 3:
        sys.exit(f"fork {i}: status {status:#x}")

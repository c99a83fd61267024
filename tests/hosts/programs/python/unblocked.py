# forks: 3
"""Writers that do not wait are refused where the pipe is full, and only there: many small writes are not."""
import errno
import os

LINES, WRITERS = 500, 3


def write(pipe, number):
    os.set_blocking(pipe, False)
    for i in range(LINES):
        os.write(pipe, b"%d %d\n" % (number, i))


def fill(pipe):
    os.set_blocking(pipe, False)
    try:
        while True:
            os.write(pipe, b"z" * 1024)
    except BlockingIOError as error:
        return errno.errorcode[error.errno]


children = []
ends, full = os.pipe(), os.pipe()
for number in range(WRITERS):
    children.append(os.fork())
    if children[-1] == 0:
        if number == 0:
            print(fill(full[1]), flush=True)
        write(ends[1], number)
        os._exit(0)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
os.close(ends[1])
lines = os.fdopen(ends[0]).read().splitlines()
for number in range(WRITERS):
    own = [int(line.split()[1]) for line in lines if line.split()[0] == str(number)]
    print(number, own == list(range(LINES)))

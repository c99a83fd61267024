# forks: 4
"""Standard output is a file that is open for reading, too, and children print into it at the same time: what each
writes comes behind what others have written, through either of two descriptors of it."""
import os

CHILDREN = 4
LINES = 300


def say(descriptor, number):
    for line in range(LINES):
        os.write(descriptor, b"%d %d\n" % (number, line))


kept = os.dup(1)
file = os.open("/tmp/elsewhere-printed-%d" % os.getpid(), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.dup2(file, 1)
children = []
for number in range(CHILDREN):
    child = os.fork()
    if child == 0:
        say(file if number == 3 else 1, number)
        os._exit(0)
    children.append(child)
statuses = [os.waitpid(child, 0)[1] for child in children]
os.dup2(kept, 1)
path = os.readlink(f"/proc/self/fd/{file}")
with open(path, "rb") as printed:
    lines = printed.read().splitlines()
os.unlink(path)
print(statuses, len(lines), lines == sorted(set(lines), key=lines.index), flush=True)
for number in range(CHILDREN):
    own = [line for line in lines if line.startswith(b"%d " % number)]
    print(number, own == [b"%d %d" % (number, line) for line in range(LINES)], flush=True)

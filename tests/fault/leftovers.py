"""What is left of a session: processes, files, sockets, shared memory, keys. Everything carries the session's id."""
import os
import socket


def processes():
    """{pid: (state, parent, environment, command line)} of every process that can be looked at."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, parent = file.read().rpartition(") ")[2].split()[:2]
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read()
            with open(f"/proc/{name}/cmdline", "rb") as file:
                command = file.read()
        except OSError:
            continue
        found[int(name)] = (state, int(parent), environment, command)
    return found


def of_session(session):
    """Living processes that have the id in their environment or on their command line. Zombies are whoever's that does
    not wait for its children; they hold nothing."""
    mark = session.encode()
    return {pid: command.replace(b"\0", b" ").decode(errors="replace")
            for pid, (state, _, environment, command) in processes().items()
            if state not in "ZX" and (mark in environment or mark in command) and pid != os.getpid()}


def files(session):
    """Paths with the id in their name, wherever a session may put its directory."""
    bases = {"/dev/shm", "/tmp", os.environ.get("TMPDIR", "/tmp"), os.environ.get("XDG_RUNTIME_DIR", "/tmp")}
    return [os.path.join(base, name) for base in bases if os.path.isdir(base) for name in os.listdir(base)
            if session in name]


def sockets(session):
    """Unix sockets, abstract ones too, with the id in their name."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        return [line.split()[-1] for line in file if session in line]


def keys(redis_path):
    """All keys of a Redis that the test owns."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(redis_path)
        client.sendall(b"KEYS *\r\n")
        answer = b""
        while not complete(answer):
            answer += client.recv(65536)
    return [line.decode() for line in answer.split(b"\r\n")[2::2]]


def complete(answer):
    lines = answer.split(b"\r\n")
    return answer.endswith(b"\r\n") and answer[:1] == b"*" and len(lines) == 2 * int(lines[0][1:]) + 2


def of(session, redis_path=None):
    """One line for each thing that is left."""
    left = [f"process {pid}: {command}" for pid, command in of_session(session).items()]
    left += [f"file {path}" for path in files(session)]
    left += [f"socket {path}" for path in sockets(session)]
    if redis_path:
        left += [f"key {key}" for key in keys(redis_path)]
    return left

# forks: 11
"""os.fork: statuses, signals in both directions, process groups, nested forks, wait family, exec in the child."""
import os
import signal
import sys


def child(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            sys.stdout.flush()
            os._exit(0)
    return pid


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    print(status(child(lambda: os._exit(7))))
    print(status(child(lambda: os.kill(os.getpid(), signal.SIGTERM))))
    print(status(child(lambda: print("parent", os.getppid() == parent))))

    # The parent signals the child, the child answers with a signal.
    got = []
    signal.signal(signal.SIGUSR2, lambda number, frame: got.append(number))
    read, write = os.pipe()

    def answer():
        signal.signal(signal.SIGUSR1, lambda number, frame: os.kill(os.getppid(), signal.SIGUSR2) or os._exit(5))
        os.write(write, b"r")
        while True:
            signal.pause()

    pid = child(answer)
    os.read(read, 1)
    os.kill(pid, signal.SIGUSR1)
    print(status(pid), got == [signal.SIGUSR2])

    # Nested.
    def nest():
        inner = os.fork()
        if inner == 0:
            print("grandchild", os.getppid() == os.getpid() or True, flush=True)
            os._exit(9)
        waited, how = os.waitpid(inner, 0)
        print(waited == inner, os.waitstatus_to_exitcode(how), flush=True)

    print(status(child(nest)))

    # A process group of its own, killed as a group.
    def lead():
        os.setpgid(0, 0)
        os.write(write, b"g")
        while True:
            signal.pause()

    pid = child(lead)
    os.read(read, 1)
    print(os.getpgid(pid) == pid)
    os.killpg(pid, signal.SIGINT)
    print(status(pid))

    # waitid, WNOHANG, ECHILD.
    pid = child(lambda: os.read(gate, 1))
    print(os.waitpid(pid, os.WNOHANG))
    os.write(open_gate, b"x")
    info = os.waitid(os.P_PID, pid, os.WEXITED)
    print(info.si_pid == pid, info.si_status, info.si_code == os.CLD_EXITED)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError as error:
        print(error)

    # exec in the child, output and status kept.
    print(status(child(lambda: os.execvp("sh", ["sh", "-c", "echo from sh; exit 4"]))))
    # resources are accounted.
    pid = child(lambda: sum(i * i for i in range(2_000_000)))
    print(os.wait4(pid, 0)[2].ru_utime > 0.01)
    # Stopped and continued.
    pid = child(lambda: os.write(write, b"s") and signal.pause())
    os.read(read, 1)
    os.kill(pid, signal.SIGSTOP)
    print(os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]))
    os.kill(pid, signal.SIGCONT)
    print(os.WIFCONTINUED(os.waitpid(pid, os.WCONTINUED)[1]))
    os.kill(pid, signal.SIGKILL)
    print(status(pid))


if __name__ == "__main__":
    parent = os.getpid()
    gate, open_gate = os.pipe()
    main()

#!/usr/bin/python3
"""Runs a command so that nothing that it leaves outlives it: no process, shared-memory object, queue or semaphore.

The command gets pid, IPC and mount namespaces of its own (and a user namespace, where the user is not root), with a
/proc and a /dev/shm of their own. Process 1 there is a copy of this program, which reaps orphans as init does. When
the command has ended, it gives what the command left a moment to end by itself, says what did not, and ends: the kernel
kills the rest, and the namespaces go with the last process. The same happens when the caller dies.
"""
import ctypes
import json
import os
import signal
import subprocess
import sys
import time

NEWNS, NEWIPC, NEWUSER, NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MS_NOEXEC = 16384, 1 << 18, 2, 4, 8
PR_SET_PDEATHSIG = 1
LEFT_SECONDS = 10
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def enter_namespaces():
    user, group = os.getuid(), os.getgid()
    call("unshare", NEWNS | NEWIPC | NEWPID | (0 if user == 0 else NEWUSER))
    if user != 0:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")


def mount_own():
    call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
    call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)
    call("mount", b"tmpfs", b"/dev/shm", b"tmpfs", MS_NOSUID | MS_NODEV, b"mode=1777")


def start(command):
    """What started us may ignore SIGINT (a shell's background job does), and tests send it to themselves."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execvp(command[0], command)
        finally:
            os._exit(127)
    return pid


def reap(until):
    """Reaps who has ended. True: `until(pid, status)` held for one of them; None: no child is left; False: neither."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return False
        if until(pid, status):
            return True


def wait_for(until, seconds):
    """True: `until` held for a child that ended; None: no child is left; False: not within `seconds`."""
    end = time.monotonic() + seconds
    while (found := reap(until)) is False:
        if signal.sigtimedwait([signal.SIGCHLD], max(0, end - time.monotonic())) is None:
            return reap(until)
    return found


def commands_of_living():
    """Process 1's own view: everybody but itself and the dead."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                head, _, rest = file.read().rpartition(") ")
            if name != "1" and rest[0] not in "ZX":
                yield head.partition("(")[2]
        except OSError:
            continue


def first_process(command, seconds):
    """{status, left}: how the command ended, and the names of the processes that it left and that would not end."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    mount_own()
    child, ended = start(command), []

    def is_command(pid, status):
        if pid == child:
            ended.append(os.waitstatus_to_exitcode(status))
        return pid == child

    if not wait_for(is_command, seconds):
        os.killpg(child, signal.SIGTERM)
        wait_for(is_command, LEFT_SECONDS)
        return {"status": "hangs", "left": []}
    gone = wait_for(lambda pid, status: False, LEFT_SECONDS) is None
    return {"status": ended[0], "left": [] if gone else sorted(commands_of_living())}


def main():
    report, seconds, *command = sys.argv[1:]
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        enter_namespaces()
    except OSError as error:
        os.write(int(report), json.dumps({"status": None, "left": [], "why": str(error)}).encode())
        sys.exit(1)
    first = os.fork()
    if first == 0:
        os.set_inheritable(int(report), False)
        try:
            result = first_process(command, float(seconds))
        except OSError as error:
            result = {"status": None, "left": [], "why": str(error)}
        os.write(int(report), json.dumps(result).encode())
        os._exit(0)
    os.waitpid(first, 0)


class Impossible(Exception):
    """Namespaces are forbidden on this machine."""


def run(command, seconds, **options):
    """(exit status, -signal or `hangs`; names of processes that it left). The options are those of Popen."""
    read, report = os.pipe()
    with open(read, "rb") as answer:
        process = subprocess.Popen([sys.executable, os.path.abspath(__file__), str(report), str(seconds), *command],
                                   stdin=subprocess.DEVNULL, pass_fds=[report], **options)
        os.close(report)
        text = answer.read()
        process.wait()
    result = json.loads(text) if text else {"status": None, "left": [], "why": "its process 1 was killed"}
    if result["status"] is None:
        raise Impossible(result["why"])
    return result["status"], result["left"]


if __name__ == "__main__":
    main()

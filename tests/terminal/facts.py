"""Prints what a process sees of its terminal: argument `parent` or `child` says who looks."""
import fcntl
import getpass
import os
import signal
import struct
import sys
import termios
import traceback

who = sys.argv[1]
TIOCGSID = 0x5429
NAME, GROUP, SESSION = os.ttyname(0), os.getpgrp(), os.getsid(0)


def say(*words):
    print(*words, flush=True)


def number(request):
    return struct.unpack("i", fcntl.ioctl(0, request, bytes(4)))[0]


def look():
    say("terminals", [os.isatty(fd) for fd in range(3)])
    say("name", os.ttyname(0) == NAME, os.ttyname(1) == NAME)
    say("group", os.tcgetpgrp(0) == GROUP, number(termios.TIOCGPGRP) == GROUP, number(TIOCGSID) == SESSION)
    say("size", os.get_terminal_size(0))
    say("attributes", termios.tcgetattr(0))
    with open("/dev/tty", "rb+", buffering=0) as own:
        say("own", os.isatty(own.fileno()), os.tcgetpgrp(own.fileno()) == GROUP)
        own.write(b"written to it\n")

    sizes = []
    signal.signal(signal.SIGWINCH, lambda *_: sizes.append(os.get_terminal_size(0)))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    say("resize me")
    signal.sigwait([signal.SIGWINCH])
    say("size", os.get_terminal_size(0))

    quiet = termios.tcgetattr(0)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, quiet)
    say("not echoed", termios.tcgetattr(0)[3] & termios.ECHO)
    say("line", input())
    quiet[3] |= termios.ECHO
    termios.tcsetattr(0, termios.TCSADRAIN, quiet)
    say("secret", getpass.getpass("say it: "))

    # A group of its own, put in the foreground and back, as a shell does it.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    say("in background", os.tcgetpgrp(0) == GROUP, os.tcgetpgrp(0) == os.getpgrp())
    os.tcsetpgrp(0, os.getpgrp())
    say("in foreground", os.tcgetpgrp(0) == os.getpgrp())
    say("line", input())
    os.tcsetpgrp(0, GROUP)
    signal.signal(signal.SIGTTIN, signal.SIG_IGN)
    try:
        say("read", os.read(0, 100))
    except OSError as error:
        say("no input in the background:", error.strerror)
    try:
        os.tcsetpgrp(0, 1)
    except PermissionError as error:
        say("not another session's:", error.strerror)


if who == "parent":
    look()
else:
    child = os.fork()
    if child == 0:
        try:
            look()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    say("status", os.waitpid(child, 0)[1])

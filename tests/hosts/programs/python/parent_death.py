# forks: 6
"""prctl(PR_SET_PDEATHSIG): who outlives its parent gets the signal, also where both run elsewhere."""
import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2


def outlive(number, handled):
    """What a grandchild says when its parent has ended: b"" if it is killed."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        os.close(reading)
        is_set, say_set = os.pipe()
        if os.fork() == 0:
            if handled:
                signal.signal(number, lambda got, _: (os.write(writing, b"%d" % got), os._exit(0)))
            answer = ctypes.c_int(-1)
            results = [libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(answer), 0, 0, 0), answer.value,
                       libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0),
                       libc.prctl(PR_GET_PDEATHSIG, ctypes.byref(answer), 0, 0, 0), answer.value]
            for nowhere in (None, ctypes.c_void_p(8)):
                results += [libc.prctl(PR_GET_PDEATHSIG, nowhere, 0, 0, 0), ctypes.get_errno()]
            os.write(writing, repr(results).encode())
            os.write(say_set, b"x")
            while True:
                signal.pause()
        os.read(is_set, 1)
        os._exit(3)
    os.close(writing)
    status = os.waitstatus_to_exitcode(os.waitpid(parent, 0)[1])
    said = b""
    while block := os.read(reading, 100):
        said += block
    os.close(reading)
    return status, said


print(outlive(signal.SIGUSR1, True))
print(outlive(signal.SIGTERM, False))
print(outlive(signal.SIGKILL, False))

# What is loaded and executed from here: libraries, interpreters, programs that PATH or a descriptor leads to.
[ -x /usr/bin/gcc ] && [ -x /usr/bin/python3 ] || exit 77
export PYTHONDONTWRITEBYTECODE=1
mkdir bin lib
echo 'int f(void) { static int calls; return ++calls; }' > lib/l.c; gcc -shared -fPIC -o lib/libl.so lib/l.c; ln -s libl.so lib/link.so
/usr/bin/python3 - <<'PY'
import ctypes, os
# Twice the same library, by whatever name, is one.
print([ctypes.CDLL(name).f() for name in ("lib/libl.so", os.path.abspath("lib/libl.so"), "lib/link.so")])
pid = os.fork()
if pid == 0:
    print(ctypes.CDLL("lib/libl.so").f(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
try: ctypes.CDLL("lib/nothing.so")
except OSError: print("nothing to load")
PY
ln -s /bin/echo bin/out; bin/out linked; cp /bin/bash bin/interpreter
printf '#!%s\necho by "${BASH_VERSION:+an interpreter here}"\n' "$PWD/bin/interpreter" > bin/script; chmod +x bin/script; bin/script
printf 'echo without a first line $1\n' > bin/plain; chmod +x bin/plain
env PATH="$PWD/bin:$PATH" plain 'by libc'; env bin/plain again; nice bin/script; env PATH="$PWD/bin:$PATH" nothing 2>/dev/null; echo $?
/usr/bin/python3 - <<'PY'
import os
def run(call):
    pid = os.fork()
    if pid == 0:
        try: call()
        except OSError as error: os.write(1, f"{type(error).__name__}\n".encode())
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
here = {"PATH": f"/nowhere:{os.getcwd()}/bin:/bin"}
run(lambda: os.execvpe("script", ["script"], here))
os.environ.update(here)
for name in ("script", "plain", "out", "true", "nothing"):
    run(lambda: os.execlp(name, name, "found by PATH"))
run(lambda: os.execl("bin/plain", "plain"))
os.environ["PATH"] = "bin:/bin"
run(lambda: os.execlp("out", "out", "found by a relative PATH"))
for name in ("script", "out", "nothing"):
    try: print(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp(name, [name, "spawned"], os.environ), 0)[1]), flush=True)
    except OSError as error: print(type(error).__name__, flush=True)
copy = os.open("bin/interpreter", os.O_RDONLY)
run(lambda: os.execve(copy, ["interpreter", "-c", "echo from a descriptor"], os.environ))
# The libc function for calls that have no other.
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
call.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 5
status = ctypes.create_string_buffer(256)
AT_FDCWD, SYS_openat, SYS_statx, SYS_mkdirat = ctypes.c_void_p(-100), 257, 332, 258
print(call(SYS_statx, AT_FDCWD, b"lib/l.c", None, 0x7ff, ctypes.addressof(status)), int.from_bytes(status[40:48], "little"))
print(call(SYS_mkdirat, AT_FDCWD, b"made", 0o750, None, None), oct(os.stat("made").st_mode), call(SYS_statx, AT_FDCWD, b"none", None, 0, ctypes.addressof(status)), ctypes.get_errno())
fd = call(SYS_openat, AT_FDCWD, b"lib/l.c", os.O_RDONLY, None, None); print(os.read(fd, 5))
PY
rm -r bin lib

#!/usr/bin/python3
"""What `elsewhere` itself answers: bad input, statuses, signals, the terminal, what lives on. Usage: LAUNCHER [TEST...]"""
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import kill_one
import leftovers

LAUNCHER = os.path.abspath(sys.argv.pop(1))
SECONDS = 30


def run(*arguments, environment=None):
    done = subprocess.run([LAUNCHER, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=SECONDS, env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


def eventually(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


class BadInput(unittest.TestCase):
    def refused(self, status, mentioned, *arguments, environment=None):
        """Ends with that status and one line, and COMMAND was not started."""
        with tempfile.TemporaryDirectory() as directory:
            trace = directory + "/started"
            arguments = [argument.replace("TRACE", trace) for argument in arguments]
            got, output, errors = run(*arguments, environment=environment)
            self.assertEqual(status, got, errors)
            self.assertEqual("", output)
            self.assertEqual(1, errors.count("\n"), errors)
            self.assertTrue(errors.startswith("elsewhere: "), errors)
            self.assertIn(mentioned, errors)
            self.assertFalse(os.path.exists(trace), "the command was started")

    def test_usage(self):
        self.refused(2, "elsewhere --help")
        self.refused(2, "no command", "run")
        self.refused(2, "'--colour'", "run", "--colour", "touch", "TRACE")
        self.refused(2, "'0'", "run", "--workers", "0", "touch", "TRACE")
        self.refused(2, "1 to 63", "run", "--workers", "1000", "touch", "TRACE")
        self.refused(2, "'mars'", "run", "--engine", "mars", "touch", "TRACE")
        self.refused(2, "ELSEWHERE_FORK: 'x'", "run", "touch", "TRACE", environment={"ELSEWHERE_FORK": "x"})

    def test_command_not_found(self):
        self.refused(127, "'no-such-command'", "run", "no-such-command")
        self.refused(127, "'./no/such'", "run", "./no/such")

    def test_command_not_executable(self):
        self.refused(126, "'/etc/passwd'", "run", "/etc/passwd")
        self.refused(126, "directory", "run", "/tmp")

    def test_unreachable_redis(self):
        self.refused(125, "127.0.0.1:1", "run", "--redis", "redis://127.0.0.1:1", "touch", "TRACE")
        self.refused(125, "/no/such.sock", "run", "--redis", "unix:///no/such.sock", "touch", "TRACE")
        self.refused(125, "http://x", "run", "--redis", "http://x", "touch", "TRACE")

    def test_wrong_password(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/redis.sock"
            server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "",
                                       "--requirepass", "secret", "--dir", directory], stdout=subprocess.DEVNULL)
            try:
                self.assertTrue(eventually(lambda: os.path.exists(path)))
                self.refused(125, "password", "run", "--redis", f"unix://{path}", "touch", "TRACE")
                self.refused(125, "password", "run", "--redis", f"unix://{path}?password=wrong", "touch", "TRACE")
                self.assertEqual((0, "", ""), run("run", "--redis", f"unix://{path}?password=secret", "true"))
            finally:
                server.kill()
                server.wait()

    def test_a_stranger_instead_of_redis(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            job = subprocess.Popen([LAUNCHER, "run", "--redis", f"redis://127.0.0.1:{port}", "true"],
                                   stderr=subprocess.PIPE, text=True)
            connection = server.accept()[0]
            connection.sendall(b"SSH-2.0-stranger\r\n")
            connection.close()
            errors = job.communicate(timeout=SECONDS)[1]
            self.assertEqual(125, job.returncode, errors)
            self.assertEqual(1, errors.count("\n"), errors)

    def test_unwritable_store(self):
        self.refused(125, "/proc/none", "run", "--store", "dir:/proc/none", "touch", "TRACE")
        self.refused(125, "ftp://x", "run", "--store", "ftp://x", "touch", "TRACE")
        with tempfile.NamedTemporaryFile() as file:
            self.refused(125, file.name, "run", "--store", "dir:" + file.name, "touch", "TRACE")


class Statuses(unittest.TestCase):
    def test_are_the_commands(self):
        for status in (0, 1, 7, 255):
            self.assertEqual((status, "", ""), run("run", "--", "sh", "-c", f"exit {status}"))

    def test_a_signal_is_128_and_its_number(self):
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGUSR1):
            self.assertEqual(128 + number, run("run", "sh", "-c", f"kill -{int(number)} $$")[0])

    def test_streams_are_the_commands(self):
        self.assertEqual((0, "out\n", "err\n"), run("run", "sh", "-c", "echo out; echo err >&2"))
        done = subprocess.run([LAUNCHER, "run", "cat"], input="in", capture_output=True, text=True, check=True)
        self.assertEqual(("in", ""), (done.stdout, done.stderr))

    def test_a_umask_is_the_commands(self):
        # Without privileges: even what root makes nobody could use then.
        done = subprocess.run(["setpriv", "--bounding-set=-all", "--inh-caps=-all", LAUNCHER, "run", "--strict",
                               "sh", "-c", "umask; (umask; umask 2; (umask)); umask"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=SECONDS,
                              umask=0o777)
        self.assertEqual((0, "0777\n0777\n0002\n0777\n", ""), (done.returncode, done.stdout, done.stderr))

    def test_standard_descriptors_that_are_closed_stay_closed(self):
        program = ("import os\n"
                   "child = os.fork()\n"
                   "if child == 0:\n"
                   "    os._exit(sum(1 << fd for fd in range(3) if os.path.exists(f'/proc/self/fd/{fd}')))\n"
                   "os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n")
        for open_ones in range(8):
            closing = " ".join(f"{fd}>&-" for fd in range(3) if not open_ones >> fd & 1)
            done = subprocess.run(["sh", "-c", f'exec "$@" {closing}', "sh", LAUNCHER, "run", "--strict",
                                   "/usr/bin/python3", "-c", program], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=False, timeout=SECONDS)
            self.assertEqual((open_ones, "", ""), (done.returncode, done.stdout, done.stderr), closing)

    def test_a_script_without_interpreter_line_is_run_by_the_shell(self):
        with tempfile.TemporaryDirectory() as directory:
            path = directory + "/script"
            with open(path, "w", encoding="utf-8") as file:
                file.write("echo $1\n")
            os.chmod(path, 0o755)
            self.assertEqual((0, "word\n", ""), run("run", path, "word"))

    def test_static_programs_run_natively_and_are_named(self):
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(["gcc", "-static", "-x", "c", "-", "-o", directory + "/static"], check=True, text=True,
                           input="int main(void) { return 5; }")
            status, output, errors = run("run", directory + "/static")
            self.assertEqual((5, ""), (status, output))
            self.assertIn("statically linked", errors)
            status, _, errors = run("run", "--strict", directory + "/static")
            self.assertEqual(125, status)
            self.assertIn("--strict", errors)

    def test_where_redis_and_store_are_is_not_told_to_the_command(self):
        with tempfile.TemporaryDirectory() as directory:
            _, output, _ = run("run", "env", environment={"ELSEWHERE_STORE": "dir:" + directory + "/store"})
            self.assertIn("ELSEWHERE_SESSION=", output)
            self.assertNotIn("ELSEWHERE_STORE", output)
            self.assertNotIn("ELSEWHERE_REDIS", output)

    def test_verbose_says_what_happens(self):
        status, output, errors = run("run", "--verbose", "sh", "-c", "(exit 0); echo $ELSEWHERE_SESSION; exit 3")
        self.assertEqual(3, status)
        for line in (f"session {output.strip()}", "workers run", "the command ended with status 3"):
            self.assertIn("elsewhere: " + line, errors)

    def test_json_statistics_are_the_last_line(self):
        _, output, errors = run("run", "--stats=json", "sh", "-c", "echo err >&2")
        self.assertEqual("", output)
        self.assertRegex(errors, r'\Aerr\n\{.*"forks_remote":\s*0.*\}\n\Z')


class Signals(unittest.TestCase):
    HANDLER = ("import os, signal, sys, time\n"
               "def handle(number, frame): os.write(1, b'%d\\n' % number); sys.exit(9)\n"
               "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1): signal.signal(number, handle)\n"
               "print('ready', flush=True)\n"
               "while True: time.sleep(1)\n")
    COUNTER = ("import os, signal, time\n"
               "count = 0\n"
               "def handle(number, frame):\n"
               "    global count; count += 1; os.write(1, b'got %d\\n' % count)\n"
               "signal.signal(signal.SIGINT, handle)\n"
               "print('ready', flush=True)\n"
               "end = time.monotonic() + LIMIT\n"
               "while time.monotonic() < end: time.sleep(0.1)\n"
               "print('total', count, flush=True)\n")

    def test_are_forwarded(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            job = subprocess.Popen([LAUNCHER, "run", "/usr/bin/python3", "-c", self.HANDLER], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
            self.assertEqual("ready\n", job.stdout.readline())
            job.send_signal(number)
            self.assertEqual((f"{int(number)}\n", ""), job.communicate(timeout=SECONDS))
            self.assertEqual(9, job.returncode)

    # Says each of the two that it gets, and their numbers at SIGUSR1.
    TWICE = ("import os, signal\n"
             "counts = {signal.SIGINT: 0, signal.SIGQUIT: 0}\n"
             "def handle(number, frame):\n"
             "    counts[number] += 1; os.write(1, b'%d\\n' % number)\n"
             "for number in counts: signal.signal(number, handle)\n"
             "def end(number, frame): os.write(1, b'%d %d\\n' % tuple(counts.values())); os._exit(0)\n"
             "signal.signal(signal.SIGUSR1, end)\n"
             "os.write(1, b'ready\\n')\n"
             "while True: signal.pause()\n")

    def test_are_the_commands_once_whoever_is_meant(self):
        job = subprocess.Popen([LAUNCHER, "run", "/usr/bin/python3", "-c", self.TWICE], stdout=subprocess.PIPE, text=True,
                               start_new_session=True)
        self.assertEqual("ready\n", job.stdout.readline())
        for send in (os.kill, os.kill, os.kill, os.killpg):
            for number in (signal.SIGINT, signal.SIGQUIT):
                send(job.pid, number)
                self.assertEqual(f"{int(number)}\n", job.stdout.readline())
        # A second copy of the group's would be sent on before this.
        job.send_signal(signal.SIGUSR1)
        self.assertEqual("4 4\n", job.communicate(timeout=SECONDS)[0])

    def test_end_the_command_as_natively(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2):
            job = subprocess.Popen([LAUNCHER, "run", "sh", "-c", "ulimit -c 0; echo ready; exec sleep 1000"],
                                   stdout=subprocess.PIPE, text=True)
            self.assertEqual("ready\n", job.stdout.readline())
            job.send_signal(number)
            job.communicate(timeout=SECONDS)
            self.assertEqual(128 + number, job.returncode)

    def test_ignored_ones_stay_ignored(self):
        job = subprocess.run(["sh", "-c", f"trap '' HUP; {LAUNCHER} run sh -c 'kill -HUP $$; echo alive'"],
                             capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual("alive\n", job.stdout)

    def terminal(self, script):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(LAUNCHER, [LAUNCHER, "run", "/usr/bin/python3", "-c", script])
        self.addCleanup(os.close, terminal)
        return pid, terminal

    def test_the_terminals_hangup_ends_the_command(self):
        script = "import time; print('ready', flush=True); time.sleep(1000)"
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        self.addCleanup(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        pid, terminal = pty.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.execv(LAUNCHER, [LAUNCHER, "run", "/usr/bin/python3", "-c", script])
        self.assertIn(b"ready", self.read_until(terminal, b"ready"))
        session = kill_one.Session(pid).id
        os.close(terminal)
        ended = signal.sigtimedwait([signal.SIGCHLD], SECONDS)
        if ended is None:
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(128 + signal.SIGHUP, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        self.assertTrue(eventually(lambda: not leftovers.of(session)), leftovers.of(session))

    @staticmethod
    def read_until(terminal, wanted):
        text = b""
        while wanted not in text:
            try:
                more = os.read(terminal, 4096)
            except OSError:  # nobody has the other side open any more
                more = b""
            if not more:
                break
            text += more
        return text

    @staticmethod
    def has_pending_interrupt(pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            pending = next(line for line in file if line.startswith("ShdPnd:"))
        return int(pending.split()[1], 16) >> (signal.SIGINT - 1) & 1

    def test_the_first_interrupt_reaches_the_command_once(self):
        pid, terminal = self.terminal(self.COUNTER.replace("LIMIT", "1"))
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.assertIn(b"total 1", self.read_until(terminal, b"total 1"))
        self.assertEqual(0, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    CHILDREN = ("import os, time\n"
                "read, write = os.pipe()\n"
                "def child(number):\n"
                "    try:\n"
                "        os.write(write, b'r')\n"
                "        time.sleep(100)\n"
                "    except KeyboardInterrupt:\n"
                "        os._exit(40 + number)\n"
                "for number in range(3):\n"
                "    if os.fork() == 0: child(number)\n"
                "for number in range(3): os.read(read, 1)\n"
                "try:\n"
                "    print('running', flush=True)\n"
                "    time.sleep(100)\n"
                "except KeyboardInterrupt:\n"
                "    print('ended', sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(3)), flush=True)\n"
                "    os._exit(6)\n")

    def test_an_interrupt_reaches_every_child(self):
        pid, terminal = self.terminal(self.CHILDREN)
        self.read_until(terminal, b"running")
        session = kill_one.Session(pid).id
        os.write(terminal, b"\x03")
        self.assertIn(b"ended [40, 41, 42]", self.read_until(terminal, b"never"))
        self.assertEqual(6, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        self.assertTrue(eventually(lambda: not leftovers.of(session)), leftovers.of(session))

    def test_the_second_interrupt_ends_everything(self):
        pid, terminal = self.terminal(self.COUNTER.replace("LIMIT", "1000"))
        self.read_until(terminal, b"ready")
        os.write(terminal, b"\x03")
        self.read_until(terminal, b"got 1")
        # A second one that comes before the launcher has seen the first is the same to the kernel.
        self.assertTrue(eventually(lambda: not self.has_pending_interrupt(pid)))
        os.write(terminal, b"\x03")
        self.assertIn(b"elsewhere: interrupted twice", self.read_until(terminal, b"interrupted twice"))
        self.assertEqual(130, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


class Ends(unittest.TestCase):
    PRINT_ID = "echo $ELSEWHERE_SESSION; "

    def assert_nothing_is_left(self, session):
        self.assertTrue(eventually(lambda: not leftovers.of(session)), leftovers.of(session))

    def test_nothing_is_left(self):
        status, output, _ = run("run", "sh", "-c", self.PRINT_ID)
        self.assertEqual(0, status)
        self.assertRegex(output, r"\A[0-9a-f]{32}\n\Z")
        self.assertEqual([], leftovers.of(output.strip()))

    def test_the_launcher_returns_with_the_root_and_the_session_lives_on(self):
        with tempfile.TemporaryDirectory() as directory:
            fifo = directory + "/fifo"
            os.mkfifo(fifo)
            _, output, _ = run("run", "sh", "-c", self.PRINT_ID + f"cat {fifo} >/dev/null 2>&1 &")
            self.assertIn(f"cat {fifo}", " ".join(leftovers.of(output.strip())))
            open(fifo, "w").close()
            self.assert_nothing_is_left(output.strip())

    def test_a_root_killed_by_a_signal_takes_all_along(self):
        status, output, _ = run("run", "sh", "-c", self.PRINT_ID + "sleep 1000 >/dev/null 2>&1 & kill -9 $$")
        self.assertEqual(137, status)
        self.assertEqual([], leftovers.of(output.strip()))

    def test_a_killed_agent_in_the_background_takes_all_along(self):
        _, output, _ = run("run", "sh", "-c", self.PRINT_ID + "sleep 1000 >/dev/null 2>&1 &")
        session = output.strip()
        agent = next(pid for pid, command in leftovers.of_session(session).items() if " agent --session" in command)
        os.kill(agent, signal.SIGKILL)
        self.assert_nothing_is_left(session)

    def test_what_a_dead_session_left_is_removed_at_the_next_start(self):
        job = subprocess.Popen([LAUNCHER, "run", "sh", "-c", self.PRINT_ID + "exec sleep 1000"], stdout=subprocess.PIPE,
                               text=True)
        session = job.stdout.readline().strip()
        # All of ours at once, so that nobody can clean up; COMMAND survives.
        ours = [pid for pid, command in leftovers.of_session(session).items() if not command.startswith(("sleep", "sh"))]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in [job.pid, *ours]:
                os.kill(pid, number)
        job.wait()
        job.stdout.close()
        self.assertEqual(0, run("run", "true")[0])
        self.assert_nothing_is_left(session)


class Preload(unittest.TestCase):
    """Programs that are started with LD_PRELOAD alone."""
    FORK = ("import os\n"
            "child = os.fork()\n"
            "here = os.readlink('/proc/self/ns/pid')\n"
            "if child == 0:\n"
            "    print(os.getpid(), here, flush=True)\n"
            "    os._exit(7)\n"
            "print(*os.waitpid(child, 0), here, flush=True)\n"
            "try:\n"
            "    print(os.waitpid(-1, 0))\n"
            "except ChildProcessError:\n"
            "    print('no other child', flush=True)\n")

    def setUp(self):
        output = run("doctor")[1]
        self.library = re.search(r"^ok +preload +(.*)$", output, re.M).group(1)

    def run_preloaded(self, *command, environment=None):
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
                              timeout=SECONDS, env={**os.environ, "LD_PRELOAD": self.library, **(environment or {})})

    def test_children_run_elsewhere_and_the_starter_is_not_seen(self):
        done = self.run_preloaded("/usr/bin/python3", "-c", self.FORK, environment={"ELSEWHERE_STATS": "json"})
        child, parent, other = done.stdout.splitlines()
        self.assertEqual(child.split()[0], parent.split()[0])
        self.assertEqual(str(7 << 8), parent.split()[1])
        self.assertNotEqual(child.split()[1], parent.split()[2], "the child ran at home")
        self.assertEqual("no other child", other)
        self.assertIn('"forks_remote":1', done.stderr)

    def test_a_program_that_does_not_fork_starts_nothing(self):
        done = self.run_preloaded("/usr/bin/python3", "-c", "import os; print(os.environ.get('ELSEWHERE_SESSION'))",
                                  environment={"ELSEWHERE_STATS": "json"})
        self.assertEqual(("None\n", ""), (done.stdout, done.stderr))

    def test_fork_local_starts_nothing(self):
        done = self.run_preloaded("/usr/bin/python3", "-c", self.FORK,
                                  environment={"ELSEWHERE_STATS": "json", "ELSEWHERE_FORK": "local"})
        child, parent, _ = done.stdout.splitlines()
        self.assertEqual(child.split()[1], parent.split()[2])
        self.assertEqual("", done.stderr)

    def test_what_is_wrong_is_said_and_the_program_runs(self):
        done = self.run_preloaded("/usr/bin/python3", "-c", self.FORK,
                                  environment={"ELSEWHERE_REDIS": "redis://127.0.0.1:1"})
        self.assertIn("no other child", done.stdout)
        self.assertIn("elsewhere: Redis at redis://127.0.0.1:1", done.stderr)

    def test_a_root_killed_by_a_signal_takes_all_along(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            script = ("import os, signal, subprocess\n"
                      "read, write = os.pipe()\n"
                      "if os.fork() == 0:\n"
                      "    os.write(write, b'x'); signal.pause()\n"
                      "os.read(read, 1)\n"
                      "subprocess.run(['sh', '-c', 'echo $ELSEWHERE_SESSION'])\n"
                      "signal.pause()\n")
            job = subprocess.Popen(["/usr/bin/python3", "-c", script], stdout=subprocess.PIPE, text=True,
                                   env={**os.environ, "LD_PRELOAD": self.library})
            self.addCleanup(job.kill)
            session = job.stdout.readline().strip()
            self.assertRegex(session, r"\A[0-9a-f]{32}\Z")
            job.send_signal(number)
            self.assertEqual(-number, job.wait(SECONDS))
            job.stdout.close()
            self.assertTrue(eventually(lambda: not leftovers.of(session)), leftovers.of(session))

    def test_a_root_that_ends_leaves_its_children_running(self):
        script = ("import os, signal, sys\n"
                  "if os.fork() == 0:\n"
                  "    print(os.getpid(), flush=True)\n"
                  "    sys.stdin.readline(); print('still here', flush=True)\n"
                  "else: os._exit(0)\n")
        job = subprocess.Popen(["/usr/bin/python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "LD_PRELOAD": self.library})
        self.assertTrue(job.stdout.readline().strip().isdigit())
        self.assertEqual(0, job.wait(SECONDS))
        self.assertEqual("still here\n", job.communicate("go\n", timeout=SECONDS)[0])

    def test_nothing_is_left(self):
        done = self.run_preloaded("sh", "-c", "true & wait; env | sed -n s/^ELSEWHERE_SESSION=//p")
        session = done.stdout.strip()
        self.assertRegex(session, r"\A[0-9a-f]{32}\Z")
        self.assertTrue(eventually(lambda: not leftovers.of(session)), leftovers.of(session))


class Doctor(unittest.TestCase):
    def test_says_one_line_for_each_thing(self):
        status, output, errors = run("doctor")
        self.assertEqual((0, ""), (status, errors), output)
        for what in ("cores", "session directory", "Redis", "store", "preload"):
            self.assertTrue(re.search(rf"^ok +{what}", output, re.M), output)

    def test_says_what_is_missing(self):
        status, output, _ = run("doctor", "--redis", "redis://127.0.0.1:1")
        self.assertEqual(1, status)
        self.assertIn("MISSING  Redis", output)


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/python3
"""An external Redis whose network fails while processes on two workers count under a lock.

Usage: broker_away.py LAUNCHER CASE

CASE: cuts       every connection is broken again and again; the count must be exact
      away       unreachable for three seconds; the count must be exact
      long       unreachable for 29 seconds; the count must be exact
      stopped    the server is stopped for 29 seconds and keeps its connections; the count must be exact
      restarted  the server comes back empty: the session ends within ten seconds, with a message
      gone       unreachable for good: the session ends after the thirty seconds it waits, with a message
      hangs      the server is stopped for good: the session ends after the thirty seconds it waits, with a message
In no case may anything of the session be left, nor a key where the server can still be asked.
"""
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import leftovers

CASES = {"cuts": 40, "away": 40, "long": 70, "stopped": 70, "restarted": 10, "gone": 45,
         "hangs": 60}  # seconds until it must have ended
AWAY = {"away": 3, "long": 29, "stopped": 29}  # seconds
MESSAGES = {"restarted": "Redis at", "gone": "tried for 30 s", "hangs": "was lost: no answer for 30 s"}
PROCESSES, TURNS = 4, 500
JOB = f"""
import multiprocessing, sys, time
def work(value):
    for _ in range({TURNS}):
        with value.get_lock():
            value.value += 1
        time.sleep(0.002)
    sys.exit(7)
value = multiprocessing.Value("i", 0)
processes = [multiprocessing.Process(target=work, args=(value,)) for _ in range({PROCESSES})]
for process in processes:
    process.start()
print("running", flush=True)
for process in processes:
    process.join()
print(value.value, [process.exitcode for process in processes], flush=True)
"""
EXPECTED = f"running\n{PROCESSES * TURNS} {[7] * PROCESSES}\n"


class Network:
    """Forwards connections to a port; what runs through it can be cut."""

    def __init__(self, target):
        self.target = target
        self.up = True
        self.lock = threading.Lock()
        self.pairs = []
        self.accepted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            if not self.up:
                self.reset(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                self.reset(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs.append((client, server))
                self.accepted += 1
            threading.Thread(target=self.forward, args=(client, server), daemon=True).start()

    def forward(self, client, server):
        other = {client: server, server: client}
        try:
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return self.reset(client, server)
                    other[ready].sendall(data)
        except (OSError, ValueError):
            self.reset(client, server)

    @staticmethod
    def reset(*ends):
        """Closes so that the peer sees an error and what was not delivered is lost."""
        for end in ends:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def cut(self):
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self.reset(*pair)


class Server:
    """A Redis of the test's own, on TCP for the session and on a Unix socket for the test."""

    def __init__(self, directory):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.path = directory + "/redis.sock"
        self.directory = directory
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", self.path, "--save", "",
             "--dir", self.directory], stdout=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.01)

    def stop(self):
        self.process.kill()
        self.process.wait()


def disturb(case, network, server, job):
    if case == "cuts":
        chance = random.Random(7)
        while job.poll() is None:
            time.sleep(chance.uniform(0.02, 0.12))
            network.cut()
    elif case in ("stopped", "hangs"):
        server.process.send_signal(signal.SIGSTOP)
        if case == "stopped":
            time.sleep(AWAY[case])
            server.process.send_signal(signal.SIGCONT)
    else:
        network.up = False
        network.cut()
        if case in AWAY:
            time.sleep(AWAY[case])
        if case == "restarted":
            server.stop()
            server.start()
        if case != "gone":
            network.up = True


def run(launcher, case):
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as errors_file:
        server = Server(directory)
        network = Network(server.port)
        try:
            job = subprocess.Popen([launcher, "run", "--workers", "2", "--redis", f"redis://127.0.0.1:{network.port}",
                                    "--stats=json", "--", "/usr/bin/python3", "-c", JOB], stdout=subprocess.PIPE, stderr=errors_file,
                                   text=True)
            output = job.stdout.readline()
            session = next((words[words.index(b"--session") + 1].decode()
                            for _, parent, _, command in leftovers.processes().values()
                            if parent == job.pid and b"--session" in (words := command.split(b"\0"))), "no session")
            started = time.monotonic()
            threading.Thread(target=disturb, args=(case, network, server, job), daemon=True).start()
            wrong = []
            try:
                output += job.communicate(timeout=CASES[case])[0]
            except subprocess.TimeoutExpired:
                wrong.append(f"not ended after {CASES[case]} s")
                for pid in leftovers.of_session(session):
                    os.kill(pid, 9)
                job.kill()
                output += job.communicate()[0]
            took = time.monotonic() - started
            errors_file.seek(0)
            errors = errors_file.read()
            print(f"{case}: {network.accepted} connections; status {job.returncode} after {took:.2f} s; output {output!r}; errors {errors!r}")
            if case not in MESSAGES:
                wrong += [] if took >= AWAY.get(case, 0) else ["ended while the server was away"]
                wrong += [] if (job.returncode, output) == (0, EXPECTED) else ["not the right result"]
                report = json.loads(errors.splitlines()[-1]) if errors.startswith("{") else {}
                if (report.get("forks_remote"), report.get("fallbacks")) != (PROCESSES, {}):
                    wrong.append("not every process ran on a worker")
                if network.accepted < 12 and case != "stopped":
                    wrong.append("nothing was disturbed")
            else:
                wrong += [] if job.returncode != 0 and "elsewhere: " in errors else ["no failure, or one without a message"]
                wrong += [] if MESSAGES[case] in errors else ["not the right message"]
                wrong += [] if EXPECTED.startswith(output) else ["a wrong result"]
            network.up = True
            server.process.send_signal(signal.SIGCONT)
            end = time.monotonic() + 5
            while leftovers.of(session, server.path) and time.monotonic() < end:
                time.sleep(0.05)
            left = leftovers.of(session, server.path)
            if case in ("gone", "hangs"):  # nobody could reach the server to remove them; they expire
                left = [what for what in left if session not in what or "elsewhere:{" not in what]
            return wrong + ["left: " + what for what in left]
        finally:
            server.stop()


def main():
    launcher, case = sys.argv[1:]
    wrong = run(launcher, case)
    for line in wrong:
        print("WRONG:", line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

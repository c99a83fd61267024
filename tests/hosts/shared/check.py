#!/usr/bin/python3
"""What must not be silently wrong is said. Usage: check.py LAUNCHER LOST_UPDATE PROCESS_MUTEX

LOST_UPDATE increments a counter on two hosts without an order: the session ends, naming region, offset and remedy. Where
it maps a file that is too large to be mapped elsewhere, it and the summary are told.
PROCESS_MUTEX uses a process-shared mutex with priority inheritance: right, because its children stay at home, for that
reason.
"""
import json
import subprocess
import sys


def run(launcher, command, *options):
    return subprocess.run([launcher, "run", *options, "--workers", "2", "--stats=json", "--", *command], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, check=False)


launcher, lost_update, process_mutex = sys.argv[1:]

for kind, memory in (("anonymous", "an anonymous shared mapping of 4096 bytes"), ("file", "/tmp/lost-update-")):
    done = run(launcher, [lost_update, kind])
    assert done.returncode == 125, done
    assert done.stdout == "", done.stdout
    for part in ("byte 0 of " + memory, "on home and on host", "--colocate"):
        assert part in done.stderr, done.stderr

    # The remedy helps: the same program's children run where the memory is, and count right.
    done = run(launcher, [lost_update, kind], "--colocate")
    assert done.returncode == 0, done
    statistics = json.loads(done.stderr.splitlines()[-1])
    assert statistics["forks_remote"] == 0 and statistics["forks_local"] > 0, statistics
    assert list(statistics["fallbacks"]) == ["it shares memory with others, which --colocate keeps on one host"], statistics

done = run(launcher, [lost_update, "large"])
assert done.returncode == 0 and done.stdout == "No such device\n", done
statistics = json.loads(done.stderr.splitlines()[-1])
assert statistics["forks_remote"] == 1, statistics
assert any("could not map a file of home: a shared mapping holds more than 512 MiB" in note for note in statistics["notes"]), statistics

done = run(launcher, [process_mutex])
assert done.returncode == 0 and done.stdout == "counter 40000\n", done
statistics = json.loads(done.stderr.splitlines()[-1])
assert statistics["forks_remote"] == 0, statistics
assert statistics["fallbacks"] == {
    "the program uses a process-shared pthread mutex with a priority protocol": 2}, statistics

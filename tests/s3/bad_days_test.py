#!/usr/bin/python3
"""Programs in mapped directories on bad days: `bad_days_test.py ELSEWHERE`, started by tests/s3/rgw, which describes the
server in the environment. A network that delays, cuts and resets, a server that answers 500, 503, 403 and 404 without
reason (seeded: FAULT_SEEDS=7,8), a wrong clock, a prefix without permission, a full disk under the cache: what close or
fsync confirmed is in the store, everything else ended with an errno and, where it helps, a message."""
import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

from proxy import Proxy

elsewhere = sys.argv[1]
endpoint, bucket = os.environ["S3_ENDPOINT"], os.environ["S3_BUCKET"]
ALLOWED = {errno.EIO, errno.ENOENT, errno.EACCES, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EEXIST, errno.ESTALE}
SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code></Error>"

# What runs inside: one line of JSON for every change: what it tried, and the errno or 0.
JOB = r"""
import json, os, random, sys
plan = random.Random(int(sys.argv[1]))
for number in range(60):
    name = f"/data/f{plan.randrange(6)}"
    kind = plan.choice(["write", "write", "append", "large", "move", "read"])
    data = f"{number}:{plan.random()} " * {"write": 20, "append": 3, "large": 12000}.get(kind, 1)
    to = f"/data/f{plan.randrange(6)}"
    said = {"kind": kind, "name": name, "data": data, "to": to, "error": 0, "found": None}
    try:
        if kind == "move":
            os.rename(name, to)
        elif kind == "read":
            with open(name) as file: said["found"] = file.read()
        else:
            flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if kind == "append" else os.O_TRUNC)
            fd = os.open(name, flags, 0o644)
            try:
                os.write(fd, data.encode())
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as error:
        said["error"] = error.errno
    print(json.dumps(said), flush=True)
"""


def answer(status, body=b"", headers=b""):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n%s" % (status, len(body), headers, body)


def run(prefix, *command, environment=None, before=()):
    return subprocess.run([*before, elsewhere, "run", "--workers", "1", "--map", f"/data=s3://{bucket}/{prefix}", "--",
                           *command], env={**os.environ, "AWS_ENDPOINT_URL": endpoint, **(environment or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=250)


def check_journal(seed, lines, found):
    """`found`: what is in the store at the end. A name holds what was confirmed last, or what was tried since."""
    possible = {}
    for said in map(json.loads, lines):
        name, kind, error = said["name"], said["kind"], said["error"]
        assert error == 0 or error in ALLOWED, (seed, said)
        before = possible.get(name, {None})
        if kind == "read":
            assert error or said["found"] in before, (seed, name, said["found"][:80], [str(one)[:80] for one in before])
            continue
        if kind == "move":
            if name != said["to"]:
                moved, kept = before - {None}, possible.get(said["to"], {None})
                possible[said["to"]] = moved if error == 0 else moved | kept
                possible[name] = {None} if error == 0 else before | {None}
            continue
        after = {(one or "") + said["data"] for one in before} if kind == "append" else {said["data"]}
        possible[name] = after if error == 0 else after | before
    for name, values in possible.items():
        value = found.get(os.path.basename(name))
        assert value in values, (seed, name, value and (len(value), value[:60]), [one and (len(one), one[:60]) for one in values])


def bad_network(seed):
    def fault(request, draw):
        if draw.random() > 0.05:
            return None
        kind = draw.randrange(6)
        if kind == 0:
            time.sleep(draw.random() / 10)  # a slow network, not a wait for something
            return None
        if kind < 3 or not request:
            return draw.randrange(1000)
        return answer(draw.choice([b"500 Internal Server Error", b"503 Slow Down", b"503 Slow Down", b"403 Forbidden",
                                   b"404 Not Found"]))

    proxy = Proxy(endpoint, fault)
    prefix = f"bad {seed}"
    for attempt in range(10):  # the check of the map before the program starts may meet a fault, and says so
        result = run(prefix, "/usr/bin/python3", "-c", JOB, str(seed), environment={"AWS_ENDPOINT_URL": proxy.url})
        if result.returncode != 125:
            break
        assert result.stdout == "" and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.returncode == 0, (seed, result.stderr[-500:])
    lines = result.stdout.splitlines()
    assert len(lines) == 60 and proxy.faults > 10, (seed, len(lines), proxy.faults)
    listing = run(prefix, "/usr/bin/python3", "-c", "import json, os; print(json.dumps({n: open('/data/' + n).read() "
                  "for n in os.listdir('/data')}))")
    check_journal(seed, lines, json.loads(listing.stdout))
    failed = sum(json.loads(line)["error"] != 0 for line in lines)
    print(f"seed {seed}: {proxy.faults} faults, {failed} of 60 calls failed", flush=True)


def wrong_clock():
    told = threading.Event()

    def fault(request, _):
        # The client sets its clock an hour ahead, which the server then truly refuses.
        if not request or told.is_set() or b" /" not in request:
            return None
        told.set()
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600)).encode()
        return answer(b"403 Forbidden", SKEWED, b"Date: " + date + b"\r\n")

    result = run("clock", "sh", "-c", "echo late > /data/file; cat /data/file",
                 environment={"AWS_ENDPOINT_URL": Proxy(endpoint, fault).url})
    assert told.is_set() and result.stdout == "late\n", result


def no_permission():
    everyone = {"Effect": "Allow", "Principal": "*"}
    policy = {"Version": "2012-10-17", "Statement": [
        {**everyone, "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]},
        {**everyone, "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
         "Resource": [f"arn:aws:s3:::{bucket}/shared/open/*"]}]}
    user = os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"]

    def put_policy(method, *arguments):
        subprocess.run(["curl", "-sSf", "--max-time", "30", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", user, "-H",
                        "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-X", method, *arguments, f"{endpoint}/{bucket}?policy="],
                       check=True, stdout=subprocess.DEVNULL)

    made = run("shared", "sh", "-ec", "mkdir /data/open /data/closed; echo ours > /data/closed/file; echo > /data/open/x")
    assert made.returncode == 0, made.stderr
    put_policy("PUT", "--data-binary", json.dumps(policy))
    other = {"AWS_ACCESS_KEY_ID": os.environ["S3_OTHER_ID"], "AWS_SECRET_ACCESS_KEY": os.environ["S3_OTHER_SECRET"]}
    job = ("import os\n"
           "def told(call, *arguments):\n"
           "    try: call(*arguments); print('done')\n"
           "    except OSError as error: print(error.strerror)\n"
           "def write(name):\n"
           "    with open(name, 'w') as file: file.write('text')\n"
           "told(write, '/data/open/new'); told(os.unlink, '/data/open/x')\n"
           "told(write, '/data/closed/new'); told(open, '/data/closed/file'); told(os.unlink, '/data/closed/file')\n"
           "told(os.listdir, '/data/closed')\n")
    result = run("shared", "/usr/bin/python3", "-c", job, environment=other)
    assert result.stdout == "done\ndone\n" + 4 * "Permission denied\n", result
    # What the other has written is the other's, by S3's rules.
    assert run("shared", "cat", "/data/open/new", environment=other).stdout == "text"
    put_policy("DELETE")
    result = run("shared", "sh", "-c", "cat /data/closed/file; ls /data/closed /data/open")
    assert result.stdout == "ours\n/data/closed:\nfile\n\n/data/open:\nnew\n", result


def full_disk():
    with tempfile.TemporaryDirectory() as scratch:
        small = ["unshare", "-m", *([] if os.geteuid() == 0 else ["-r"]), "sh", "-ec",
                 f'mount -t tmpfs -o size=6m none {scratch}; exec "$@"', "sh"]
        if subprocess.run([*small, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            print("full disk: left out, no mount name space can be made here")
            return
        assert run("full", "sh", "-c", "head -c 20000000 /dev/zero > /data/large").returncode == 0
        cache = {"XDG_CACHE_HOME": scratch}
        result = run("full", "sh", "-c", "echo small > /data/small; cat /data/small; head -c 20000000 /dev/zero > /data/other",
                     environment=cache, before=small)
        assert result.stdout == "small\n" and "No space left on device" in result.stderr, result
        result = run("full", "sh", "-c", "md5sum /data/large || echo not read", environment=cache, before=small)
        assert "Input/output error" in result.stderr and result.stdout == "not read\n", result


first, behind = map(int, os.environ.get("FAULT_SEEDS", "1,4").split(","))
for number in range(first, behind):
    bad_network(number)
wrong_clock()
no_permission()
full_disk()

#!/usr/bin/python3
"""A session whose images are kept in S3: `session_test.py ELSEWHERE`, started by tests/s3/rgw, which describes the
server in the environment. The children must run remotely, print what they print natively, and leave no object."""
import json
import os
import subprocess
import sys
import urllib.parse

elsewhere = sys.argv[1]
endpoint = os.environ["S3_ENDPOINT"]
bucket = os.environ["S3_BUCKET"]
JOB = """
import multiprocessing, numpy
def work(n): return float(numpy.arange(n * 1000).sum())
if __name__ == "__main__":
    with multiprocessing.Pool(3) as pool: print(pool.map(work, range(40)))
"""


def run(store, environment=None):
    return subprocess.run([elsewhere, "run", "--workers", "2", "--stats=json", "--store", store, "--", "/usr/bin/python3",
                           "-c", JOB], env={**os.environ, "AWS_ENDPOINT_URL": endpoint, **(environment or {})},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)


def objects():
    key = os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"]
    listing = subprocess.run(["curl", "-sSf", "--max-time", "30", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", key, "-H",
                              "x-amz-content-sha256: UNSIGNED-PAYLOAD", f"{endpoint}/{bucket}?list-type=2"],
                             check=True, stdout=subprocess.PIPE, text=True).stdout
    return [urllib.parse.unquote(part.split("</Key>")[0]) for part in listing.split("<Key>")[1:]]


def refused(store, environment, text):
    result = run(store, environment)
    assert result.returncode == 125, (result.returncode, result.stderr)
    assert text in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stdout == "", result.stdout


native = subprocess.run(["/usr/bin/python3", "-c", JOB], stdout=subprocess.PIPE, text=True, check=True,
                        timeout=60).stdout
result = run(f"s3://{bucket}/sessions")
assert result.returncode == 0, result.stderr
assert result.stdout == native, (result.stdout, native)
stats = json.loads(result.stderr.splitlines()[-1])
assert stats["forks_remote"] == 3 and stats["forks_local"] == 0, result.stderr
assert stats["bytes_shipped"] > 0 and stats["bytes_deduplicated"] > 0, result.stderr
assert objects() == [], objects()

refused("s3://no-such-bucket/x", {}, "there is no such bucket")
refused(f"s3://{bucket}", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is wrong")
refused(f"s3://{bucket}", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "Couldn't connect")
refused("s3://", {}, "write s3://bucket")

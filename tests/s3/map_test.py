#!/usr/bin/python3
"""Mapped directories on S3: `map_test.py ELSEWHERE COMPARE`, started by tests/s3/rgw, which describes the server in the
environment. The programs of tests/file behave as in a local directory; other S3 tools see plain objects; what cannot
work is one clear line before anything starts."""
import glob
import os
import subprocess
import sys

elsewhere, compare = sys.argv[1:3]
endpoint, bucket = os.environ["S3_ENDPOINT"], os.environ["S3_BUCKET"]
os.environ["AWS_ENDPOINT_URL"] = endpoint


def run(arguments, environment=None):
    return subprocess.run([elsewhere, "run", "--workers", "1", *arguments], env={**os.environ, **(environment or {})},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=100)


def refused(arguments, text, environment=None, status=125):
    result = run([*arguments, "--", "echo", "started"], environment)
    assert result.returncode == status, (result.returncode, result.stderr)
    assert text in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stdout == "", result.stdout


def curl(method, key, *arguments):
    user = os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"]
    return subprocess.run(["curl", "-sSf", "--max-time", "30", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", user, "-H",
                           "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-X", method, *arguments, f"{endpoint}/{bucket}/{key}"],
                          check=True, stdout=subprocess.PIPE, text=True).stdout


refused(["--map", "/data=s3://no-such-bucket/x"], "there is no such bucket")
refused(["--map", f"/data=s3://{bucket}/x"], "the secret key is wrong", {"AWS_SECRET_ACCESS_KEY": "wrong"})
refused(["--map", f"/data=s3://{bucket}/x", "--endpoint", "http://127.0.0.1:1"], "Couldn't connect")
refused(["--map", f"/data=s3://{bucket}/x"], "/data",
        {"AWS_ACCESS_KEY_ID": os.environ["S3_OTHER_ID"], "AWS_SECRET_ACCESS_KEY": os.environ["S3_OTHER_SECRET"]})
refused(["--map", "data=s3://x"], "the directory must be absolute", status=2)

curl("PUT", "tools/put", "--data-binary", "by another tool\n")
result = run(["--map", f"/data=s3://{bucket}/tools", "--map", f"/ro=s3://{bucket}/tools:ro", "--", "sh", "-c",
              "cat /data/put; echo from here > /data/got; cat /ro/got; echo x > /ro/no; mv /data/got /tmp/elsewhere-got; "
              "cat /tmp/elsewhere-got; mv /tmp/elsewhere-got /data/back; ls /data"])
assert result.stdout == "by another tool\nfrom here\nfrom here\nback\nput\n", result
assert "Read-only file system" in result.stderr, result.stderr
assert curl("GET", "tools/back") == "from here\n"

failed = [os.path.basename(program) for program in sorted(glob.glob(os.path.dirname(compare) + "/programs/*.sh"))
          if subprocess.run([compare, elsewhere, program, f"s3://{bucket}/compare"], timeout=280).returncode not in (0, 77)]
assert not failed, failed

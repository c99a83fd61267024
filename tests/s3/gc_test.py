#!/usr/bin/python3
"""`elsewhere gc` on a real server: `gc_test.py ELSEWHERE`, started by tests/s3/rgw. Uploads that a killed writer left
are listed, kept while they are young or elsewhere, and removed."""
import os
import re
import subprocess
import sys
import urllib.parse

elsewhere = sys.argv[1]
endpoint, bucket = os.environ["S3_ENDPOINT"], os.environ["S3_BUCKET"]
SIGNED = ["curl", "-sSf", "--max-time", "30", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u",
          os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"],
          "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]


def request(*arguments):
    return subprocess.run([*SIGNED, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def begin(key):
    answer = request("-X", "POST", f"{endpoint}/{bucket}/{urllib.parse.quote(key)}?uploads=")
    upload = re.search("<UploadId>(.*?)</UploadId>", answer).group(1)
    request("-X", "PUT", "--data-binary", "part", f"{endpoint}/{bucket}/{urllib.parse.quote(key)}?partNumber=1&uploadId={upload}")


def uploads():
    return sorted(re.findall("<Key>(.*?)</Key>", request(f"{endpoint}/{bucket}?uploads=")))


def gc(*arguments, status=0, environment=None):
    result = subprocess.run([elsewhere, "gc", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=60, env={**os.environ, **(environment or {})})
    assert result.returncode == status, (arguments, result)
    return result.stdout if status == 0 else result.stderr


for name in ("a/large file", "a/other", "b"):
    begin(name)
where = ("--endpoint", endpoint, f"s3://{bucket}/a")
assert uploads() == ["a/large file", "a/other", "b"], uploads()
assert "0 found" in gc(*where), "they are too young"
listed = gc("--dry-run", "--age", "0s", *where)
assert f"upload  s3://{bucket}/a/large file  begun 20" in listed and "2 found, 0 removed" in listed, listed
assert len(uploads()) == 3
assert "2 found, 2 removed" in gc("--age=0s", *where)
assert uploads() == ["b"], uploads()
assert "0 found" in gc("--age=0s", *where)
assert "1 found, 1 removed" in gc("--age=0s", f"s3://{bucket}", environment={"AWS_ENDPOINT_URL": endpoint})
assert uploads() == [], uploads()

assert "the secret key is wrong" in gc(*where, status=1, environment={"AWS_SECRET_ACCESS_KEY": "wrong"})
assert "there is no such bucket" in gc("--endpoint", endpoint, "s3://no-such-bucket", status=1)
assert "'soon' is no age" in gc("--age", "soon", *where, status=2)

#!/usr/bin/python3
"""Other S3 tools and mapped directories on one bucket: `interop_test.py ELSEWHERE`, started by tests/s3/rgw, which
describes the server in the environment. What awscli, boto3, rclone and s3fs write is a file with the attributes that
they gave it; what a program wrote in a mapped directory is to them an object with content, size, mode, time and
symbolic links as they understand them. A tool that is not installed (tools/install-dependencies --s3-peers), or may not
mount here, is left out with a line; exit status 77 if that are all."""
import contextlib
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile

elsewhere = sys.argv[1]
endpoint, bucket = os.environ["S3_ENDPOINT"], os.environ["S3_BUCKET"]
os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1", "TZ": "UTC"}
os.environ.pop("AWS_CA_BUNDLE", None)  # rclone does not start with one
LARGE = bytes(range(256)) * (20 << 12)
NAMES = ["file", "large", "dir/a b", "dir/\u00fc+%41", "link"]
WRITTEN = 1580702706  # 2020-02-03 04:05:06


def run(*command, environment=None, stdin=None):
    result = subprocess.run(command, env={**os.environ, **(environment or {})}, input=stdin, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=100)
    assert result.returncode == 0, (command, result.returncode, result.stderr.decode()[-600:])
    return result.stdout


def mapped(prefix, script, stdin=b""):
    """`script` by a shell in the mapped prefix; its output."""
    return run(elsewhere, "run", "--workers", "1", "--map", f"/data=s3://{bucket}/{prefix}", "--", "sh", "-ec",
               "cd /data; " + script, stdin=stdin).decode()


def write_files(prefix):
    mapped(prefix, """umask 022; cat > large; echo text > file; chmod 640 file; mkdir dir; echo one > 'dir/a b'
        echo two > 'dir/\u00fc+%41'; ln -s dir/../file link; touch -d @1580702706.25 file""", LARGE)


def attributes(prefix, *names):
    """{name: [type, permissions, size, whole seconds of the time]}, as a program sees them."""
    lines = mapped(prefix, "stat -c '%n|%F|%a|%s|%Y' " + " ".join(f"'{name}'" for name in names)).splitlines()
    return {line.split("|")[0]: [*line.split("|")[1:3], *map(int, line.split("|")[3:])] for line in lines}


def content(prefix, name):
    return mapped(prefix, f"md5sum < '{name}'").split()[0]


def same(found, expected):
    assert found == expected, f"found {found!r}, not {expected!r}"


def md5(data):
    return hashlib.md5(data).hexdigest()


def aws():
    if not shutil.which("aws"):
        return "awscli is not installed"

    def s3(*arguments, stdin=None):
        return run("aws", "--endpoint-url", endpoint, *arguments, stdin=stdin)

    listed = s3("s3", "ls", "--recursive", f"s3://{bucket}/ours/").decode()
    same({line.split(None, 3)[3][5:]: int(line.split()[2]) for line in listed.splitlines() if not line.endswith("/")},
         {"file": 5, "large": len(LARGE), "dir/a b": 4, "dir/\u00fc+%41": 4, "link": 11})
    same(s3("s3", "cp", f"s3://{bucket}/ours/dir/a b", "-"), b"one\n")
    same(md5(s3("s3", "cp", f"s3://{bucket}/ours/large", "-")), md5(LARGE))
    head = json.loads(s3("s3api", "head-object", "--bucket", bucket, "--key", "ours/file"))["Metadata"]
    same((int(head["mode"]), float(head["mtime"])), (0o100640, WRITTEN + 0.25))
    s3("s3", "cp", "-", f"s3://{bucket}/aws/deep/er/small file", stdin=b"by aws\n")
    s3("s3", "cp", "-", f"s3://{bucket}/aws/large", stdin=LARGE)
    stored = json.loads(s3("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", "aws/large"))["Contents"][0]
    time = int(datetime.datetime.fromisoformat(stored["LastModified"]).timestamp())
    same(attributes("aws", "large"), {"large": ["regular file", "644", len(LARGE), time]})
    same(content("aws", "large"), md5(LARGE))
    same(mapped("aws", "find . | sort; cat 'deep/er/small file'"),
         ".\n./deep\n./deep/er\n./deep/er/small file\n./large\nby aws\n")
    return None


def boto():
    try:
        import boto3
    except ImportError:
        return "boto3 is not installed"
    client = boto3.client("s3", endpoint_url=endpoint)
    listed = client.list_objects_v2(Bucket=bucket, Prefix="ours/")["Contents"]
    same(sorted(entry["Key"][5:] for entry in listed if not entry["Key"].endswith("/")), sorted(NAMES))
    got = client.get_object(Bucket=bucket, Key="ours/file")
    same((got["Body"].read(), got["Metadata"]["mode"]), (b"text\n", str(0o100640)))
    client.put_object(Bucket=bucket, Key="boto/file", Body=b"by boto\n", ContentType="text/plain",
                      Metadata={"mode": str(0o100600), "mtime": str(WRITTEN), "other": "kept"})
    same(attributes("boto", "file"), {"file": ["regular file", "600", 8, WRITTEN]})
    same(mapped("boto", "cat file; echo more >> file; chmod 640 file"), "by boto\n")
    got = client.get_object(Bucket=bucket, Key="boto/file")
    same((got["Body"].read(), got["Metadata"]["other"], got["ContentType"]), (b"by boto\nmore\n", "kept", "text/plain"))
    return None


def rclone():
    if not shutil.which("rclone"):
        return "rclone is not installed"
    environment = {"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "Ceph",
                   "RCLONE_CONFIG_R_ENV_AUTH": "true", "RCLONE_CONFIG_R_ENDPOINT": endpoint}
    listed = json.loads(run("rclone", "lsjson", "-R", "--files-only", f"R:{bucket}/ours", environment=environment))
    same(sorted(entry["Path"] for entry in listed), sorted(NAMES))
    same([entry["ModTime"] for entry in listed if entry["Path"] == "file"], ["2020-02-03T04:05:06.250000000Z"])
    same(run("rclone", "cat", f"R:{bucket}/ours/dir/\u00fc+%41", environment=environment), b"two\n")
    with tempfile.TemporaryDirectory() as scratch:
        source = os.path.join(scratch, "copied file")
        for name, data in (("copied file", b"by rclone\n"), ("large", LARGE)):
            with open(os.path.join(scratch, name), "wb") as file:
                file.write(data)
        os.utime(source, (WRITTEN, WRITTEN))
        run("rclone", "copy", "--s3-upload-cutoff", "5M", scratch, f"R:{bucket}/rclone", environment=environment)
    same(attributes("rclone", "copied file"), {"copied file": ["regular file", "644", 10, WRITTEN]})
    same(content("rclone", "large"), md5(LARGE))
    return None


@contextlib.contextmanager
def mounted(prefix):
    with tempfile.TemporaryDirectory() as scratch:
        keys, directory = os.path.join(scratch, "keys"), os.path.join(scratch, "mounted")
        os.mkdir(directory)
        with open(keys, "w", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="ascii") as file:
            file.write(f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}")
        # It returns when the directory is mounted.
        run("s3fs", f"{bucket}:/{prefix}", directory, "-o", f"url={endpoint},use_path_request_style,passwd_file={keys}")
        try:
            yield directory
        finally:
            run("umount", directory)


def s3fs():
    if not shutil.which("s3fs"):
        return "s3fs is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        return "s3fs may not mount here"
    with mounted("ours") as directory:
        same(sorted(os.path.relpath(os.path.join(at, name), directory)
                    for at, _, names in os.walk(directory) for name in names), sorted(NAMES))
        found = os.stat(os.path.join(directory, "file"))
        same((oct(found.st_mode), found.st_size, int(found.st_mtime)), ("0o100640", 5, WRITTEN))
        same(os.readlink(os.path.join(directory, "link")), "dir/../file")
        with open(os.path.join(directory, "link"), "rb") as file:
            same(file.read(), b"text\n")
        with open(os.path.join(directory, "large"), "rb") as file:
            same(md5(file.read()), md5(LARGE))
    mapped("s3fs", "touch first")  # it mounts only a prefix that is there
    with mounted("s3fs") as directory:
        os.mkdir(os.path.join(directory, "dir"), 0o750)
        for name, data in (("dir/file", b"by s3fs\n"), ("large", LARGE)):
            with open(os.path.join(directory, name), "wb") as file:
                file.write(data)
        os.chmod(os.path.join(directory, "dir/file"), 0o604)
        os.utime(os.path.join(directory, "dir/file"), (WRITTEN, WRITTEN))
        os.symlink("dir/file", os.path.join(directory, "link"))
        inside = attributes("s3fs", "dir/file", "dir", "link")
    same(inside["dir/file"], ["regular file", "604", 8, WRITTEN])
    same(inside["dir"][:2], ["directory", "750"])
    same(inside["link"][0], "symbolic link")
    same(mapped("s3fs", "readlink link; cat link"), "dir/file\nby s3fs\n")
    same(content("s3fs", "large"), md5(LARGE))
    return None


write_files("ours")
left_out = 0
for tool in (aws, boto, rclone, s3fs):
    why = tool()
    left_out += why is not None
    print(f"{tool.__name__}: {'ok' if why is None else 'left out: ' + why}", flush=True)
sys.exit(77 if left_out == 4 else 0)

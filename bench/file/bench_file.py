#!/usr/bin/python3
"""Files on S3 beside s3fs, rclone mount, awscli and curl, on one server: `bench_file.py [OPTIONS]`.

Starts Ceph RGW by tests/s3/rgw, one for each kind of work, unless the environment describes a server already. Every
system does the same work (bench_file_work) on a prefix of its own, in the same run; what only fills a cache starts with an
empty one. A system that is not installed, or that may not mount here, is said to be missing. Exit status 1: a limit is missed.
Beside each time: the processor time that the server took for it. What the figures mean, and which of them the server
bounds: README.md.

  --mib N        size of the large file (1024)       --files N    small files (1000)
  --objects N    objects of the tree (100000)        --rounds N   alternating rounds; the best counts (1)
  --only A,B     systems: library map plain later s3fs rclone aws curl; plain is a map with :plain, which only names
                 matter to; later is a map with --write-back, whose times are those of the whole run, start and end
  --skip A,B     work: large small tree link
"""
import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time

from meters import AgentMemory, server_seconds

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("ELSEWHERE_HOME", os.path.join(ROOT, "build/release"))
WORK = os.path.join(BUILD, "bench/file/bench_file_work")
LINK = os.path.join(BUILD, "bench/file/shaped_link")
LAUNCHER = os.path.join(ROOT, "tools/elsewhere")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("mib", 1024), ("files", 1000), ("objects", 100000), ("rounds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("only", "library,map,plain,later,s3fs,rclone,aws,curl"), ("skip", "")):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","), default=default.split(","))
    return parser.parse_args()


def run(command, environment=None, timeout=3600):
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            timeout=timeout, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:6])} ...: status {result.returncode}: {result.stderr.strip()[-300:]}")
    return result.stdout


WALKS = {"list": ["ls", "-lR"], "find": ["find"]}
AGAIN = " again"  # a work that was done in a session before this one, on the same host


class System:
    """Does pieces of work on one prefix; `session` prepares a fresh start with an empty cache."""

    def __init__(self, name, options, scratch, endpoint):
        self.name, self.options, self.scratch, self.endpoint = name, options, scratch, endpoint
        self.prefix = f"bench-{name}"
        self.memory = {}  # MiB of an agent, by work
        self.environment = {k: v for k, v in os.environ.items() if k != "AWS_CA_BUNDLE"} | {"AWS_ENDPOINT_URL": endpoint}

    def works(self):
        return True

    @contextlib.contextmanager
    def session(self, names=()):
        yield

    def command(self, names):
        raise NotImplementedError

    # Whether other programs see it at a path; and how one is started there, in a session.
    has_paths = True

    def program_on(self, path, *program):
        raise NotImplementedError

    def walk(self, name):
        """The whole tree by a program that nobody here wrote."""
        with self.session((name,)):
            command = self.program_on("tree", *WALKS[name.removesuffix(AGAIN)])
            begin = time.monotonic()
            lines = run(command, self.environment).count("\n")
            seconds = time.monotonic() - begin
        if lines <= self.options.objects:
            raise RuntimeError(f"{' '.join(command)}: only {lines} lines")
        return {name: seconds}

    def do(self, *names):
        """{name: seconds}; nothing for what this system cannot do."""
        if names[0].removesuffix(AGAIN) in WALKS and self.has_paths:
            return self.walk(names[0])
        size = ["--mib", str(self.options.mib), "--files", str(self.options.files)]
        works = {name.removesuffix(AGAIN): name for name in names}
        with self.session(names):
            output = run(self.command([*size, *works]), self.environment)
        return {works[line.split()[0]]: float(line.split()[1]) for line in output.splitlines()}

    def at(self, endpoint):
        return type(self)(self.name, self.options, self.scratch, endpoint)


class Library(System):
    has_paths = False

    @contextlib.contextmanager
    def session(self, names=()):
        # Only what is done again finds what was kept.
        if not names or not names[0].endswith(AGAIN):
            self.cache = tempfile.mkdtemp(dir=self.scratch)
        self.environment["XDG_CACHE_HOME"] = self.cache
        yield
        if not names or not any([names[0] + AGAIN] in starts for starts in KINDS.values()):
            shutil.rmtree(self.cache)

    def command(self, names):
        return [WORK, f"s3://{os.environ['S3_BUCKET']}/{self.prefix}", "--cache", os.path.join(self.cache, "files"), *names]


class Map(Library):
    has_paths = True

    def works(self):
        return "--map" in run([LAUNCHER, "--help"])

    options_of_map = ""

    def program_on(self, path, *program):
        url = f"s3://{os.environ['S3_BUCKET']}/{self.prefix}{self.options_of_map}"
        return [LAUNCHER, "run", "--map", f"/mapped={url}", "--", *program, os.path.join("/mapped", path)]

    def command(self, names):
        return [*self.program_on("", WORK), *names]

    @contextlib.contextmanager
    def session(self, names=()):
        with super().session(names):
            memory = AgentMemory(self.cache)
            try:
                yield
            finally:
                self.memory[names[0]] = memory.end()


class Later(Map):
    def program_on(self, path, *program):
        command = super().program_on(path, *program)
        command.insert(command.index("run") + 1, "--write-back")
        return command

    def do(self, *names):
        if names[0] not in ("create", "delete"):
            return {}
        begin = time.monotonic()
        super().do(*names)
        return {names[0]: time.monotonic() - begin}


class Plain(Map):
    options_of_map = ":plain"

    def do(self, *names):
        self.prefix = self.prefix.replace("bench-plain", "bench-map")
        return super().do(*names) if names[0] in ("stat", "list", "find") else {}


class Mount(System):
    def works(self):
        return shutil.which(self.program) and os.access("/dev/fuse", os.R_OK | os.W_OK)

    @contextlib.contextmanager
    def session(self, names=()):
        self.directory = tempfile.mkdtemp(dir=self.scratch)
        self.cache = tempfile.mkdtemp(dir=self.scratch)
        mount = subprocess.Popen(self.mount(names), env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not os.path.ismount(self.directory):
            if mount.poll() is not None:
                raise RuntimeError(f"{self.name} does not mount: {mount.stderr.read().strip()[-300:]}")
            time.sleep(0.02)
        try:
            yield
        finally:
            run(["umount", "-l", self.directory])  # also when what failed has a file open there
            mount.wait(timeout=60)
            shutil.rmtree(self.cache)
            os.rmdir(self.directory)

    def program_on(self, path, *program):
        return [*program, os.path.join(self.directory, path)]

    def command(self, names):
        return [WORK, self.directory, *names]


class S3fs(Mount):
    program = "s3fs"

    def mount(self, names):
        keys = os.path.join(self.cache, "keys")
        with open(keys, "w", opener=lambda path, flags: os.open(path, flags, 0o600), encoding="ascii") as file:
            file.write(f"{os.environ['AWS_ACCESS_KEY_ID']}:{os.environ['AWS_SECRET_ACCESS_KEY']}")
        # parallel_count: as many as we use.
        return ["s3fs", f"{os.environ['S3_BUCKET']}:/{self.prefix}", self.directory, "-f", "-o",
                f"url={self.endpoint},use_path_request_style,passwd_file={keys},parallel_count=16"]


class Rclone(Mount):
    program = "rclone"

    def mount(self, names):
        self.environment |= {"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "Ceph",
                             "RCLONE_CONFIG_R_ENV_AUTH": "true", "RCLONE_CONFIG_R_ENDPOINT": self.endpoint}
        # With a cache, close and fsync return before anything is sent, and an unmount loses it: writers do without.
        mode = "off" if {"write", "create", "append", "delete"} & set(names) else "full"
        return ["rclone", "mount", f"R:{os.environ['S3_BUCKET']}/{self.prefix}", self.directory, "--vfs-cache-mode", mode,
                "--cache-dir", self.cache]


class Aws(System):
    def works(self):
        return os.path.exists("/usr/bin/aws")

    def do(self, *names):
        url = f"s3://{os.environ['S3_BUCKET']}/{self.prefix}"
        source = os.path.join(self.scratch, "large")
        commands = {"write": ["cp", "--quiet", source, f"{url}/large"], "read": ["cp", "--quiet", f"{url}/large", "/dev/null"],
                    "find": ["ls", "--recursive", f"s3://{os.environ['S3_BUCKET']}/bench-tree/tree/"]}
        seconds = {}
        for name in names:
            if name in commands:
                begin = time.monotonic()
                run(["/usr/bin/aws", "--endpoint-url", self.endpoint, "s3", *commands[name]], self.environment)
                seconds[name] = time.monotonic() - begin
        return seconds


class Curl(System):
    """The floor: the same bytes or requests by curl, nothing kept, nothing checked."""
    part = 16 << 20

    def works(self):
        return shutil.which("curl")

    def request(self, *arguments):
        keys = os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"]
        return run(["curl", "-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", keys, "-H",
                    "x-amz-content-sha256: UNSIGNED-PAYLOAD", *arguments], self.environment)

    def transfer(self, pieces, together):
        """`together` at once; 0: one after the other on one connection."""
        keys = os.environ["AWS_ACCESS_KEY_ID"] + ":" + os.environ["AWS_SECRET_ACCESS_KEY"]
        config = "\nnext\n".join(
            "\n".join([f'user = "{keys}"', 'aws-sigv4 = "aws:amz:us-east-1:s3"',
                       'header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"', 'output = "/dev/null"',
                       "speed-limit = 1", "speed-time = 30", *piece]) for piece in pieces)
        path = os.path.join(self.scratch, "curl.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(config)
        at_once = ["--parallel", "--parallel-max", str(together)] if together else []
        run(["curl", "-sSf", *at_once, "-K", path], self.environment)

    # Works of many small requests: how curl is told to make one, and whether they may go side by side.
    SMALL = {"create": ('request = "PUT"', False), "stat": ("head", True), "readsmall": ("", False),
             "delete": ('request = "DELETE"', False), "list": ("head", True)}

    def each(self, work):
        """Requests of their own for all small files, or for all objects of the tree: what no file system can avoid."""
        option, together = self.SMALL[work]
        if work == "list":
            keys = [f"tree/{i // 1000}/{i % 1000}" for i in range(self.options.objects)]
        else:
            keys = [f"small/{i}" for i in range(self.options.files)]
        body = os.path.join(self.scratch, "small")
        if work == "create":
            with open(body, "wb") as file:
                file.write(os.urandom(4096))
            option += f'\nupload-file = "{body}"'
        self.transfer([[f'url = "{self.base}/{key}"', option] for key in keys], 32 if together else 0)

    @property
    def base(self):
        return f"{self.endpoint}/{os.environ['S3_BUCKET']}/{self.prefix}"

    def begin_upload(self, url):
        return self.request("-X", "POST", url + "?uploads=").split("<UploadId>")[1].split("<")[0]

    def write(self):
        url, body = f"{self.base}/large", os.path.join(self.scratch, "part")
        if not os.path.exists(body):
            with open(body, "wb") as file:
                file.write(os.urandom(self.part))
        upload = self.begin_upload(url)
        self.transfer([[f'url = "{url}?partNumber={i + 1}&uploadId={upload}"', f'upload-file = "{body}"']
                       for i in range(self.count)], 8)
        listed = self.request(f"{url}?uploadId={upload}").split("<ETag>")[1:]
        parts = "".join(f"<Part><PartNumber>{i + 1}</PartNumber><ETag>{part.split('<')[0]}</ETag></Part>"
                        for i, part in enumerate(listed))
        self.request("-X", "POST", "--data-binary", f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>",
                     f"{url}?uploadId={upload}")

    def read(self):
        self.transfer([[f'url = "{self.base}/large"', f'range = "{i * self.part}-{(i + 1) * self.part - 1}"']
                       for i in range(self.count)], 8)

    def append(self):
        """What an append makes the server do: copy as many bytes into an upload, which is given up then; the seconds."""
        # Of one object several times, since curl signs the header of a range wrongly.
        url, parts, body = f"{self.base}/copied", 8, os.path.join(self.scratch, "copied")
        with open(body, "wb") as file:
            file.write(os.urandom(1 << 20) * max(1, self.options.mib // parts))
        self.request("--upload-file", body, f"{self.base}/source")
        upload = self.begin_upload(url)
        begin = time.monotonic()
        self.transfer([[f'url = "{url}?partNumber={i + 1}&uploadId={upload}"', 'request = "PUT"', 'data = ""',
                        f'header = "x-amz-copy-source: /{os.environ["S3_BUCKET"]}/{self.prefix}/source"']
                       for i in range(parts)], parts)
        seconds = time.monotonic() - begin
        self.request("-X", "DELETE", f"{url}?uploadId={upload}")
        return seconds

    def do(self, *names):
        self.count = max(1, (self.options.mib << 20) // self.part)
        seconds = {}
        for name in names:
            work = {"write": self.write, "read": self.read, "append": self.append}.get(name)
            if work is None and name not in self.SMALL:
                continue
            begin = time.monotonic()
            took = work() if work else self.each(name)
            seconds[name] = took or time.monotonic() - begin
        return seconds


SYSTEMS = {"library": Library, "map": Map, "plain": Plain, "later": Later, "s3fs": S3fs, "rclone": Rclone, "aws": Aws, "curl": Curl}
# Each list is one start with an empty cache, but for what is done again.
KINDS = {"large": [["write"], ["read", "reread"], ["random"], ["append"]],
         "small": [["create"], ["stat"], ["stat again"], ["readsmall"], ["delete"]], "link": [["write"], ["read"]],
         "tree": [["list"], ["list again"], ["find"]]}
# (kind, work, against, ours must be at least so many times as fast)
LIMITS = [("link", "write", "curl", 0.9), ("link", "read", "curl", 0.9), ("link", "write", "s3fs", 1.0),
          ("link", "read", "s3fs", 1.0), ("link", "write", "rclone", 1.0), ("link", "read", "rclone", 1.0),
          ("large", "reread", "local", 0.95), ("large", "random", "s3fs", 2.0),
          *(("small", work, "s3fs", 3.0) for work in ("create", "stat", "stat again", "readsmall", "delete")),
          ("tree", "list", "s3fs", 3.0), ("tree", "list again", "s3fs", 3.0), ("tree", "find", "s3fs", 3.0)]
LONGEST_APPEND = 3.0
MOST_MEMORY = 256  # MiB of the agent while a tree is walked


def measure(options, scratch):
    systems = {}
    for name in options.only:
        system = SYSTEMS[name](name, options, scratch, os.environ["S3_ENDPOINT"])
        if system.works():
            systems[name] = system
        else:
            print(f"{name}: not available here, left out", flush=True)
    figures = {}

    def note(kind, name, seconds, server=0, memory=None):
        for work, took in seconds.items():
            figures[kind, work, name] = min(took, figures.get((kind, work, name), took))
            mib = (memory or {}).get(work)
            if mib:
                figures[kind, work + " MiB", name] = mib
            print(f"  {kind:6} {work:10} {name:8} {took:9.3f} s" + (f"   server {server:7.2f} s" if server else "") +
                  (f"   agent {mib:.0f} MiB" if mib else ""), flush=True)

    large = os.path.join(scratch, "large")
    with open(large, "wb") as file:
        for _ in range(options.mib):
            file.write(os.urandom(1 << 20))
    planter = Library("tree", options, scratch, os.environ["S3_ENDPOINT"])
    if "tree" not in options.skip:
        with planter.session():
            run([*planter.command(["--files", str(options.objects)]), "plant"], planter.environment)
    link = None
    if "link" not in options.skip:
        port = os.environ["S3_ENDPOINT"].rsplit(":", 1)[1]
        link = subprocess.Popen([LINK, port, "200", "5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        shaped = f"http://127.0.0.1:{link.stdout.readline().strip()}"
    for _ in range(options.rounds):
        for kind, starts in KINDS.items():
            for start in starts:
                for name, system in systems.items():
                    if kind in options.skip:
                        continue
                    worker = system.at(shaped) if kind == "link" else system
                    if kind == "tree":
                        worker.prefix = planter.prefix
                    try:
                        before = server_seconds()
                        note(kind, name, worker.do(*start), server_seconds() - before, worker.memory)
                    except (RuntimeError, NotImplementedError) as error:
                        print(f"  {kind:6} {start[0]:10} {name:8} failed: {error}", flush=True)
                    worker.prefix = f"bench-{name}"
        if "large" not in options.skip:
            local = tempfile.mkdtemp(dir=scratch)
            for work in (["write"], ["read", "reread"]):
                output = run([WORK, local, "--mib", str(options.mib), *work])
                note("large", "local", {line.split()[0]: float(line.split()[1]) for line in output.splitlines()})
            shutil.rmtree(local)
    if link:
        link.stdin.close()
        link.wait()
    return figures, systems


def report(figures, systems):
    names = [*systems, "local"]
    print(f"\n{'seconds':18}" + "".join(f"{name:>10}" for name in names))
    for kind, work in dict.fromkeys((kind, work) for kind, work, _ in figures):
        row = [figures.get((kind, work, name)) for name in names]
        print(f"{kind + ' ' + work:18}" + "".join(f"{value:10.3f}" if value is not None else f"{'-':>10}" for value in row))
    missed = 0
    print()
    for ours in ("library", "map", "plain", "later"):
        for kind, work, peer, factor in LIMITS:
            mine, theirs = figures.get((kind, work, ours)), figures.get((kind, work, peer))
            if mine is None or theirs is None:
                continue
            missed += theirs / mine < factor
            floor = figures.get((kind, work, "curl"))
            most = f"; curl alone: {theirs / floor:.2f}" if floor and peer not in ("curl", "local") else ""
            print(f"{'ok    ' if theirs / mine >= factor else 'MISSED'} {ours} {kind} {work}: {theirs / mine:.2f} times "
                  f"{peer}'s speed, wanted {factor}{most}")
        append = figures.get(("large", "append", ours))
        if append is not None:
            missed += append > LONGEST_APPEND
            floor = figures.get(("large", "append", "curl"))
            alone = f"; the server's copying alone, by curl: {floor:.2f} s" if floor else ""
            print(f"{'ok    ' if append <= LONGEST_APPEND else 'MISSED'} {ours} append: {append:.2f} s, wanted {LONGEST_APPEND}{alone}")
        mib = figures.get(("tree", "list MiB", ours))
        if mib is not None:
            missed += mib > MOST_MEMORY
            print(f"{'ok    ' if mib <= MOST_MEMORY else 'MISSED'} {ours} tree list: {mib:.0f} MiB, wanted {MOST_MEMORY}")
    return missed


def on_a_server(kind):
    """The exit status of that work alone, by a server of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        others = ",".join(other for other in KINDS if other != kind)
        return subprocess.call([os.path.join(ROOT, "tests/s3/rgw"), "run", os.path.join(scratch, "s3"), "/usr/bin/python3", __file__,
                                *sys.argv[1:], "--skip", others], env={**os.environ, "S3_MEMORY_GB": "12"})


def main():
    if "S3_ENDPOINT" not in os.environ:
        # A server for each kind of work: one that has stored and removed much is slower, and one that is full waits for ever.
        kinds = [kind for kind in KINDS if kind not in parse().skip]
        sys.exit(max([on_a_server(kind) for kind in kinds], default=0))
    options = parse()
    with tempfile.TemporaryDirectory(prefix="elsewhere-bench-") as scratch:
        figures, systems = measure(options, scratch)
    sys.exit(1 if report(figures, systems) else 0)


main()

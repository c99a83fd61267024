# CPython's files: buffered, unbuffered, mapped, temporary, walked.
exec /usr/bin/python3 - <<'PY'
import glob, mmap, os, pathlib, shutil, tempfile, zipfile, json, csv, sqlite3
with open("a", "w") as f:
    f.write("hello\n" * 1000)
    f.seek(6); f.write("WORLD"); f.flush(); os.fsync(f.fileno())
print(os.path.getsize("a"), open("a").read()[:20])
with open("a", "r+b") as f:
    f.seek(-3, 2); f.write(b"end"); f.truncate(5000); print(f.tell(), os.fstat(f.fileno()).st_size)
with open("a", "ab", buffering=0) as f: f.write(b"tail"); print(f.tell())
print(open("a", "rb").read()[-6:], os.path.samefile("a", "./a"))
fd = os.open("b", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
os.pwrite(fd, b"x" * 10, 100); print(os.pread(fd, 20, 95), os.lseek(fd, 0, os.SEEK_END), oct(os.fstat(fd).st_mode)); os.close(fd)
try: os.open("b", os.O_CREAT | os.O_EXCL)
except FileExistsError as e: print(e)
with open("m", "w+b") as f:
    f.truncate(8192)
    with mmap.mmap(f.fileno(), 8192) as m: m[5000:5005] = b"hello"; m.flush()
print(open("m", "rb").read()[4999:5006])
os.makedirs("d/e/f"); pathlib.Path("d/e/x.txt").write_text("x"); pathlib.Path("d/y.txt").write_text("y")
print(sorted(os.walk("d")), sorted(glob.glob("d/**/*.txt", recursive=True)))
print(sorted((e.name, e.is_dir(), e.is_file(), e.stat().st_size) for e in os.scandir("d") if not e.is_dir()))
shutil.copytree("d", "d2"); shutil.move("d2/e", "e"); print(sorted(os.listdir("e")), sorted(os.listdir("d2"))); shutil.rmtree("d2")
os.chdir("e"); print(os.getcwd() == os.path.realpath("."), os.path.relpath("x.txt", "..")); os.chdir("..")
with zipfile.ZipFile("z.zip", "w") as z: z.write("e/x.txt")
print(zipfile.ZipFile("z.zip").namelist()); os.remove("z.zip")
with tempfile.NamedTemporaryFile(dir=".") as t: t.write(b"t"); t.flush(); print(os.path.exists(t.name))
with tempfile.TemporaryDirectory(dir=".") as t: open(t + "/q", "w").close(); print(os.listdir(t))
json.dump({"k": [1, 2]}, open("j", "w")); print(json.load(open("j")))
with open("c.csv", "w", newline="") as f: csv.writer(f).writerows([[i, i * i] for i in range(100)])
print(sum(int(r[1]) for r in csv.reader(open("c.csv"))))
os.utime("a", ns=(10**18, 10**18 + 5)); print(os.stat("a").st_mtime_ns); os.chmod("a", 0o604); print(oct(os.stat("a").st_mode))
os.symlink("a", "l"); print(os.readlink("l"), os.lstat("l").st_size, os.path.islink("l")); os.replace("c.csv", "a"); print(os.path.getsize("l"))
for call in (lambda: os.rmdir("a"), lambda: os.unlink("d"), lambda: os.rename("nothing", "x"), lambda: os.listdir("a"),
             lambda: os.mkdir("d"), lambda: open("d"), lambda: os.rename("d", "d/e/g"), lambda: os.readlink("a")):
    try: print(call())
    except OSError as e: print(type(e).__name__, e.errno)
PY

# Directories: their times, and descriptors of directories above this one; files that are made by who only reads.
t() { stat -c '%n %Y' "$@"; }
mkdir -p a/b; echo x > a/b/f; touch -d @1000000000 a/b a; t a a/b; (: > a/b/g); touch -d @1000000001 a/b; t a a/b
mkdir -p c/d; cp -a a c/; t c/a c/a/b; touch -d @1000000002 c/a/b; /bin/mkdir c/a/e; t c/a/b; [ c/a -nt c/a/b ] && echo newer
rm c/a/b/f; [ c/a/b -nt a/b ] && echo newer by a removal; /bin/mv c/a/b/g c/a/b/h; touch -d @1000000003 c/a/b; t c/a/b
for i in 1 2 3 4 5 6; do (echo $i > c/d/$i); done; touch -d @1000000004 c/d; t c/d; rm c/d/1; touch -d @1000000005 c/d c c/a a; t c/d
/usr/bin/python3 - <<'PY'
import os
for flags in (os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY):
    at = os.open("/", flags)
    for name in os.getcwd().split("/")[1:] + ["a", "b"]:
        os.stat(name, dir_fd=at, follow_symlinks=False)
        at = os.open(name, flags, dir_fd=at)
    print(sorted(os.listdir("/proc/self/fd/%d" % at)), os.stat("f", dir_fd=at).st_size)
    os.fchdir(at); os.chdir("../..")
os.close(os.open("made", os.O_RDONLY | os.O_CREAT, 0o640))
open("emptied", "w").write("text"); os.close(os.open("emptied", os.O_RDONLY | os.O_TRUNC))
os.close(os.open("once", os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o600))
print(sorted(os.listdir(".")))
PY
flock lock true; ls

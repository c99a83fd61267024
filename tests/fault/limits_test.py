#!/usr/bin/python3
"""Sessions that run out of something: room in the store, open files. Usage: LAUNCHER [TEST...]"""
import subprocess
import tempfile
import unittest

from launcher_test import LAUNCHER, SECONDS, run


class FullStore(unittest.TestCase):
    """The children of a process whose image the store has no room for run at home, and that is said."""
    PROGRAM = ("import os, random\n"
               "data = random.Random(1).randbytes(64 << 20)\n"
               "child = os.fork()\n"
               "if child == 0: os._exit(sum(data[::4096]) % 100)\n"
               "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n")

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        command = ["mount", "-t", "tmpfs", "-o", "size=32m", "none", directory.name]
        if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs the right to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", directory.name], check=True)
        self.store = "dir:" + directory.name + "/store"

    def test_children_run_at_home(self):
        native = subprocess.run(["/usr/bin/python3", "-c", self.PROGRAM], capture_output=True, text=True, check=True)
        status, output, errors = run("run", "--store", self.store, "/usr/bin/python3", "-c", self.PROGRAM)
        self.assertEqual((0, native.stdout), (status, output), errors)
        self.assertEqual("elsewhere: 1 child ran at home: the store is full\n", errors)

    def test_strict_ends_with_an_error(self):
        status, output, errors = run("run", "--strict", "--store", self.store, "/usr/bin/python3", "-c", self.PROGRAM)
        self.assertEqual((125, ""), (status, output))
        self.assertIn("the store is full", errors)


class FewDescriptors(unittest.TestCase):
    """An agent holds descriptors for each child; natively one child needs none."""
    # All children live at the same time.
    PROGRAM = ("import os\n"
               "read, write = os.pipe()\n"
               "children = []\n"
               "for number in range(CHILDREN):\n"
               "    child = os.fork()\n"
               "    if child == 0:\n"
               "        os.close(write); os.read(read, 1); os._exit(number % 7)\n"
               "    children.append(child)\n"
               "os.close(write)\n"
               "print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))\n")

    @staticmethod
    def run_with(limit, children):
        command = [LAUNCHER, "run", "--workers", "2", "/usr/bin/python3", "-c",
                   FewDescriptors.PROGRAM.replace("CHILDREN", str(children))]
        done = subprocess.run(["prlimit", f"--nofile={limit}", *command], capture_output=True, text=True, check=False,
                              timeout=SECONDS)
        return done.returncode, done.stdout, done.stderr

    def test_children_run_at_home(self):
        status, output, errors = self.run_with(64, 8)
        self.assertEqual((0, "21\n"), (status, output))
        self.assertRegex(errors, r"\Aelsewhere: \d children ran at home: the limit of open files \(ulimit -Hn\) is near: 64\n\Z")

    def test_where_no_child_can_be_served_the_session_ends(self):
        self.assertEqual((125, "", "elsewhere: no more files can be opened: raise the limit (ulimit -Hn), which is 128\n"),
                         self.run_with(128, 100))


if __name__ == "__main__":
    unittest.main()

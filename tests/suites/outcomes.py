#!/usr/bin/python3
"""Runs unittest tests of one module and appends one line per event to a file: `start ID`, then `OUTCOME ID`.

Usage: outcomes.py FILE MODULE [PATTERN...]

Written line by line, so that it is known of a run that hung or was killed which test it was in. With PATTERNs (as of
unittest's -k: substrings, or with * of the whole id) only the tests that match one. Only the process that was started
writes: a child that a test forks and that comes back here by mistake does not.
"""
import fnmatch
import os
import sys
import unittest


class Outcomes(unittest.TestResult):
    def __init__(self, path):
        super().__init__()
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        # Out of the way of tests that count on low numbers.
        high = os.dup2(self.file, 900, inheritable=False)
        os.close(self.file)
        self.file, self.pid = high, os.getpid()

    def say(self, outcome, test):
        if os.getpid() == self.pid:
            os.write(self.file, f"{outcome} {test.id()}\n".encode())

    def startTest(self, test):
        super().startTest(test)
        self.say("start", test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("skipped", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.complain("FAIL", test, self.failures)

    def addError(self, test, error):
        super().addError(test, error)
        self.complain("ERROR", test, self.errors)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.complain("FAIL", test, self.failures + self.errors)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.say("expected", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.say("unexpected", test)

    def complain(self, outcome, test, where):
        self.say(outcome, test)
        print(f"---- {outcome} {test.id()}\n{where[-1][1] if where else ''}", file=sys.stderr, flush=True)


def leaves(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from leaves(each)
        else:
            yield each


def matches(test, patterns):
    return not patterns or any(fnmatch.fnmatchcase(test.id(), pattern if "*" in pattern else f"*{pattern}*")
                               for pattern in patterns)


def select(suite, patterns):
    """The suite with its structure (module fixtures depend on the order), without what does not match."""
    kept = unittest.TestSuite()
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            kept.addTest(select(each, patterns))
        elif matches(each, patterns):
            kept.addTest(each)
    return kept


def main():
    path, module, *patterns = sys.argv[1:]
    result = Outcomes(path)
    select(unittest.defaultTestLoader.loadTestsFromName(module), patterns).run(result)
    os.write(result.file, b"end -\n")


if __name__ == "__main__":
    main()

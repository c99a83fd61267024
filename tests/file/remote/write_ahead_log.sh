# SQLite's write-ahead log, written on several hosts: every commit that a writer was told of is there. The log's index is
# memory that one host has at a time; the others are told that it is busy.
exec /usr/bin/python3 - <<'PY'
import os, sqlite3
def connect(): return sqlite3.connect("t.db", timeout=60, isolation_level=None)
def write(writer, commits, stays, synchronous):
    database = None
    for commit in range(commits):
        while True:
            try:
                if database is None:
                    database = connect()
                    database.execute("pragma synchronous=" + synchronous)
                database.execute("begin immediate")
                database.execute("insert into t values (?, ?)", (writer, commit))
                database.execute("commit")
                break
            except sqlite3.Error:
                database.close()
                database = None
        if not stays:
            database.close()
            database = None
    if database: database.close()
    os._exit(0)
database = connect(); print(database.execute("pragma journal_mode=wal").fetchone())
database.execute("create table t(writer, number)"); database.close()
writers = 0
for stays in (True, False):
    for synchronous in ("full", "normal"):
        for writer in range(writers, writers + 4):
            if os.fork() == 0: write(writer, 10, stays, synchronous)
        print([os.wait()[1] for _ in range(4)])
        writers += 4
database = connect()
rows = sorted(database.execute("select writer, number from t"))
print("lost", [(w, n) for w in range(writers) for n in range(10) if (w, n) not in rows], len(rows))
print(database.execute("pragma integrity_check").fetchall())
database.close(); os.remove("t.db")
PY

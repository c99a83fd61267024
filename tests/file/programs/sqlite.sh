# A database, changed by several processes at once.
exec /usr/bin/python3 - <<'PY'
import sqlite3, subprocess, sys
db = sqlite3.connect("t.db"); db.execute("create table t(i integer primary key, s text)"); db.commit(); db.close()
WRITE = """
import sqlite3, sys
db = sqlite3.connect("t.db", timeout=120)
for i in range(5):
    with db: db.execute("insert into t(s) values (?)", (sys.argv[1] * 100,))
"""
writers = [subprocess.Popen([sys.executable, "-c", WRITE, name]) for name in "abc"]
print([w.wait() for w in writers])
db = sqlite3.connect("t.db"); print(db.execute("select count(*), sum(length(s)) from t").fetchall(), db.execute("pragma integrity_check").fetchall())
db.close()
import os; os.remove("t.db")
PY

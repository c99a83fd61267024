# Tables of pandas: CSV written whole, compressed, appended and read in pieces, and pickled.
/usr/bin/python3 -c 'import pandas' 2>/dev/null || exit 77
exec /usr/bin/python3 - <<'PY'
import os
import numpy, pandas
random = numpy.random.default_rng(1)
table = pandas.DataFrame({"a": random.integers(0, 1000, 20000), "b": random.random(20000), "c": [f"s{i % 97}" for i in range(20000)]})
table.to_csv("x.csv", index=False)
table.to_csv("x.csv.gz", index=False, compression={"method": "gzip", "mtime": 1})
back = pandas.read_csv("x.csv")
print(back.equals(pandas.read_csv("x.csv.gz")), back.shape, back.a.sum())
table.head(100).to_csv("x.csv", mode="a", header=False, index=False)
print(len(pandas.read_csv("x.csv")), sum(len(piece) for piece in pandas.read_csv("x.csv", chunksize=1000)))
table.to_pickle("x.pkl")
print(pandas.read_pickle("x.pkl").equals(table))
os.remove("x.pkl")
PY

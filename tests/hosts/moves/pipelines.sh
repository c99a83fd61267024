# forks: any
# Pipelines of a shell whose stages run on one worker: their pipes become that worker's own.
seq 1 300000 | sort -rn | tail -n 3
yes | head -c 3000000 | wc -c
seq 1 200000 | while read -r number; do (( number % 50000 == 0 )) && echo "$number"; done
seq 1 100000 | { head -n 2; wc -l; } | cat
yes endless | head -n 100000 | tail -n 1; echo "${PIPESTATUS[*]}"
( trap '' PIPE; yes 2>/dev/null; echo "yes ended with $?" >&2 ) | head -n 1
seq 1 50000 | gzip -c | gzip -dc | md5sum
seq 1 100000 | ( exec sed -n '99999,$p' )
dd if=/dev/zero bs=64k count=320 status=none | tr '\0' 'x' | md5sum
awk 'BEGIN { for (i = 0; i < 100000; i++) print i }' | perl -ne '$sum += $_; END { print "$sum\n" }'
/usr/bin/python3 -c 'import sys
for i in range(50000): print(i, flush=i % 100 == 0)' | /usr/bin/python3 -c 'import sys; print(sum(map(int, sys.stdin)))'
{ seq 1 5000; kill -KILL "$BASHPID"; } | wc -l; echo "${PIPESTATUS[*]}"

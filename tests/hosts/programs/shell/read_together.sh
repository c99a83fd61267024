# forks: any
# Children on several hosts read one here document, long enough to be a file without a name, and one file at the same time:
# each record is read once.
directory=$(mktemp -d)
reader='while (sysread(STDIN, $record, 8)) { print $record; select(undef, undef, undef, 0.0005) if ++$count % 50 == 0 }'
seq -f %07.0f 1 20000 > "$directory/in"

for part in 1 2 3 4; do
  perl -e "$reader" <&3 > "$directory/out.$part" &
done 3<<<"$(< "$directory/in")"
wait
sort "$directory"/out.* | cksum

for part in 1 2 3 4; do
  perl -e "$reader" <&3 > "$directory/out.$part" &
done 3< "$directory/in"
wait
sort "$directory"/out.* | cksum
rm -r "$directory"

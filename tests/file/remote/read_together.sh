# Children on several hosts read one inherited file at the same time: each record is read once.
reader='while (sysread(STDIN, $record, 8)) { print $record; select(undef, undef, undef, 0.0005) if ++$count % 50 == 0 }'
seq -f %07.0f 1 20000 > in
for part in 1 2 3 4; do
  perl -e "$reader" <&3 > out.$part &
done 3< in
wait
sort out.* | cksum
for part in 1 2; do
  dd bs=8 status=none <&3 > out.$part &
  perl -e 'while (sysread(STDIN, $record, 8)) { print $record; sysseek(STDIN, 0, 1) }' <&3 > out.$((part + 2)) &
done 3< in
wait
sort out.* | cksum
rm out.*

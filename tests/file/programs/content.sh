# Contents: redirections, appending, changing in place, streams, several descriptors of one file.
seq 100000 > numbers; wc < numbers; md5sum numbers; sort -rn numbers > sorted; head -2 sorted; tail -n 2 numbers
for i in 1 2 3; do echo line $i >> log; done; cat log; (echo sub; echo shell) >> log; wc -l log
sed -i 's/line/LINE/' log; cat log; awk '{s += $1} END {print s}' numbers; grep -c 7 numbers; cut -c1 numbers | sort | uniq -c
dd if=numbers of=part bs=1000 skip=3 count=2 2>/dev/null; md5sum part; dd if=/dev/zero of=numbers bs=10 seek=5 count=1 conv=notrunc 2>/dev/null; md5sum numbers
exec 3<> log; read -r first <&3; echo "$first"; echo inserted >&3; exec 3>&-; cat log
exec 4> out; echo a >&4; (echo b >&4); echo c >&4; cat out; exec 4>&-; cat out
cat numbers | tee copy | md5sum; cmp numbers copy && echo equal; : > copy; wc -c copy; printf '%s' x > copy; cat copy; echo
gzip -k sorted && gzip -dc sorted.gz | md5sum; rm sorted.gz; split -n 3 sorted; ls x*; cat xaa xab xac | md5sum; rm xa?
cp numbers n1; cp n1 n2; mv n2 n1; ls n*; rm numbers; exec 5< n1; rm n1; head -c 4 <&5; exec 5<&-; ls
{ echo kept; rm -f gone; echo "not lost" >&6; } 6> gone; cat gone; echo status $?

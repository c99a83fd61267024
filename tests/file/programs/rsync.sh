# rsync from the local disk to here, from here, and within, all ways.
command -v rsync >/dev/null || exit 77
L=$(mktemp -d /tmp/elsewhere-rsync-XXXXXX)
mkdir -p $L/a/sub/deep $L/a/empty; for i in 1 2 3 4 5 6 7 8; do head -c $((i*7777)) /dev/zero | tr '\0' "$i" > $L/a/f$i; touch -d "2020-01-0$i 03:04:05.$i" $L/a/f$i; done
seq 100000 > $L/a/sub/seq; ln -s ../f1 $L/a/sub/l; ln -s nowhere $L/a/dangling; chmod 640 $L/a/f2; chmod 755 $L/a/f3; chmod 700 $L/a/empty; touch -d '2019-05-05' $L/a/sub/seq $L/a/sub $L/a/empty
mkfifo $L/a/fifo; touch -h -d '2018-01-01' $L/a/dangling; touch -d '2018-02-02' $L/a/fifo
rsync -a $L/a/ b; echo $?
rsync -ai $L/a/ b; echo again $?
rsync -aic $L/a/ b; echo c $?
echo changed >> $L/a/sub/seq; touch -d 2020-06-06 $L/a/sub/seq; rm $L/a/f4; mkdir $L/a/new; echo n > $L/a/new/n; touch -d 2020-07-07 $L/a/new/n $L/a/new $L/a
rsync -ai --delete $L/a/ b; echo $?
sed -i 's/^500$/five hundred/' $L/a/sub/seq; touch -d 2020-06-07 $L/a/sub/seq
rsync -ai --checksum-seed=1 --inplace --no-whole-file $L/a/ b; echo $?
sed -i 's/^600$/six hundred/' $L/a/sub/seq; touch -d 2020-06-08 $L/a/sub/seq
rsync -ai --checksum-seed=1 --no-whole-file --partial --partial-dir=.p --stats $L/a/ b | grep -E 'Matched|Literal|^>'; echo $?
rsync -a --delete b/ $L/back; diff -r --no-dereference --exclude=fifo $L/a $L/back && echo same
rsync -ain --delete b/ $L/a; echo n $?
rsync -a --append-verify $L/a/ c; rsync -ai --backup --suffix=.old --delete $L/a/f1 b/f2 ; ls b
rsync -a --link-dest=../b $L/a/ d >/dev/null 2>&1
rsync -a b/ e; rsync -aAX b/ e2; rsync -aS b/ e3; rsync -ain b/ e; diff -r --no-dereference b e >/dev/null; echo $?
rsync -a --remove-source-files e2/ g; find e2 | sort | head; rsync -a --preallocate --fsync b/ h; rsync -a --temp-dir=/tmp b/ i; rsync -a --delay-updates --delete-after b/ j; rsync -aR b/sub/deep k
rsync -a --bwlimit=100000 --timeout=50 b/ rsync-p; rsync -ai --existing --ignore-times b/ e
touch -d 2021-01-01 f2 b e e2 e3 g h i j k c d e2/new rsync-p
rm -rf $L

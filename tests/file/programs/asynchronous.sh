# Writes that no call of libc's makes: they are stored like others.
[ -x /usr/bin/gcc ] || exit 77
gcc -o /tmp/elsewhere-aio.$$ "${0%.sh}.c" || exit 1
for size in 5000 3000000; do seq 1000000 | head -c $size > $size; /tmp/elsewhere-aio.$$ $size; md5sum $size; done
rm /tmp/elsewhere-aio.$$
command -v fio >/dev/null || exit 0
for engine in libaio posixaio; do
  seq 500000 | head -c 2097152 > $engine
  fio --name=j --filename=$engine --ioengine=$engine --rw=randwrite --bs=4k --size=2m --io_size=400k --randseed=9 --buffer_pattern=0xab --output=/dev/null
  md5sum $engine
done

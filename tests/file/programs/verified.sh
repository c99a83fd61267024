# fio writes in all ways and verifies what it reads back.
command -v fio >/dev/null || exit 77
job() {
  fio --name=$1 --directory=. --minimal --do_verify=1 "${@:2}" >out 2>&1
  local status=$?
  [ $status = 0 ] || grep -v '^fio-' out
  echo $1 $status
}
job random --rw=randwrite --bs=4k --size=4m --verify=crc32c
job sequence --rw=write --bs=128k --size=16m --verify=md5
job mixed --rw=randrw --bs=8k --size=4m --verify=crc32c
job memory --rw=randwrite --bs=8k --size=4m --verify=crc32c --ioengine=mmap
job synced --rw=randwrite --bs=4k --size=2m --verify=crc32c --fsync=16 --fallocate=none
job vectored --rw=randwrite --bs=4k --size=4m --verify=crc32c --ioengine=vsync --iodepth=8
job aio --rw=randwrite --bs=4k --size=4m --verify=crc32c --ioengine=libaio --iodepth=8
rm -f ./*.0 out local-*

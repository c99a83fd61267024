# forks: any
# What is shared by System V's ways, as programs of any host list it, and the limits that hold for it.
memory=$(ipcmk -M 1000 | grep -o '[0-9]*$')
semaphores=$(ipcmk -S 3 | grep -o '[0-9]*$')
queue=$(ipcmk -Q | grep -o '[0-9]*$')
trap 'ipcrm -m $memory -s $semaphores -q $queue' EXIT

has() { awk -v id="$2" '$2 == id { found = 1 } END { print found ? "listed" : "not listed" }' "$1"; }
list() {
  has /proc/sysvipc/shm "$memory"
  has /proc/sysvipc/sem "$semaphores"
  has /proc/sysvipc/msg "$queue"
  ipcs -m | awk -v id="$memory" '$2 == id { print $4, $5, $6 }'
  ipcs -s | awk -v id="$semaphores" '$2 == id { print $4, $5 }'
}
list
(list)
(ls /proc/sysvipc; [ -r /proc/sysvipc/shm ] && [ -d /proc/sysvipc ] && echo readable)
(cat /proc/sys/kernel/shmmni /proc/sys/kernel/sem /proc/sys/kernel/msgmnb /proc/sys/fs/mqueue/queues_max)

// forks: 4
// Several writers on several hosts: small records stay whole, and a reader that comes late loses nothing.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWriters = 4, kRecords = 200, kSize = 4000 };

int main(void) {
  int p[2];
  static char record[kSize], seen[kSize];
  pipe(p);
  for (int i = 0; i < kWriters; ++i) {
    if (fork() != 0) continue;
    close(p[0]);
    memset(record, 'a' + i, sizeof record);
    for (int k = 0; k < kRecords; ++k) {
      if (write(p[1], record, sizeof record) != sizeof record) _exit(1);
    }
    _exit(0);
  }
  close(p[1]);
  // Everybody is stuck meanwhile: each of the pipe's pages holds one record.
  const int full = fcntl(p[0], F_GETPIPE_SZ) / 4096 * kSize;
  for (int there = 0; there < full; sched_yield()) ioctl(p[0], FIONREAD, &there);
  int counts[kWriters] = {0}, torn = 0;
  for (;;) {
    size_t have = 0;
    ssize_t size = 1;
    while (have < sizeof seen && (size = read(p[0], seen + have, sizeof seen - have)) > 0)
      have += (size_t)size;
    if (have == 0) break;
    for (size_t k = 1; k < have; ++k) torn += seen[k] != seen[0];
    ++counts[seen[0] - 'a'];
  }
  for (int i = 0; i < kWriters; ++i) printf("%d\n", counts[i]);
  printf("torn %d\n", torn);
  for (int i = 0, status; i < kWriters; ++i) printf("status %d\n", (wait(&status), status));
  return 0;
}

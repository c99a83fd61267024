// A library that is initialised before the preload and calls interposed functions there and from inside
// malloc, as allocators that read their configuration do.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static char first_byte;
static long malloc_reads;

extern void* __libc_malloc(size_t size);

void* malloc(size_t size) {
  static __thread int inside;
  if (!inside) {
    inside = 1;
    malloc_reads += read(-1, &first_byte, 1) == -1;
    inside = 0;
  }
  return __libc_malloc(size);
}

__attribute__((constructor)) static void Early(void) {
  const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  if (read(fd, &first_byte, 1) != 1 || first_byte != 0x7f || lseek(fd, 0, SEEK_CUR) != 1) _exit(90);
  close(fd);
}

// What the test's main program asks for.
long EarlyMallocReads(void) {
  return malloc_reads;
}

// A process with much memory that forks again and again, and every way in which that memory changes in
// between: what each child sees is what there was when it was forked.
// forks: 118
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define SIZE ((size_t)48 << 20)
#define PAGES (SIZE / PAGE)

static unsigned char* memory;
static unsigned char* handled;  // written by the handlers of fork
static unsigned char* moved;

static int times;
static void before(void) {
  ++times;
  ++handled[3 * PAGE];
}
static void in_parent(void) {
  handled[4 * PAGE] += 2;
}
static void in_child(void) {
  if (times % 2 == 0) handled[5 * PAGE] += 3;
}

static uint64_t sum(const unsigned char* at, size_t pages) {
  uint64_t total = 0;
  for (size_t page = 0; page < pages; ++page) total = total * 31 + at[page * PAGE] + at[page * PAGE + 77];
  return total;
}

static void report(const char* what) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    printf("%s: %llx %d %d %d %llx\n", what, (unsigned long long)sum(memory, PAGES), handled[3 * PAGE],
           handled[4 * PAGE], handled[5 * PAGE], (unsigned long long)(moved ? sum(moved, 512) : 0));
    memory[PAGE] = 99;  // seen by nobody else
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
}

// Another process writes into the memory, as peers do that copy their messages without a detour. It is
// spawned, and so on the same host.
static void write_from_outside(size_t at, const char* value) {
  extern char** environ;
  char process[32];
  char address[32];
  snprintf(process, sizeof process, "%d", getpid());
  snprintf(address, sizeof address, "%p", (void*)(memory + at));
  char* arguments[] = {"memory_forks", process, address, (char*)value, NULL};
  pid_t peer;
  int status = 1;
  if (posix_spawn(&peer, "/proc/self/exe", NULL, NULL, arguments, environ) != 0) exit(1);
  if (waitpid(peer, &status, 0) != peer || status != 0) exit(1);
}

static void write_as_file(size_t at) {
  const int own = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
  if (pwrite(own, "0123456789", 10, (off_t)(uintptr_t)(memory + at)) != 10) exit(1);
  close(own);
}

static int write_to(char** arguments) {
  struct iovec from = {arguments[3], strlen(arguments[3])};
  struct iovec to = {(void*)strtoul(arguments[2], NULL, 16), from.iov_len};
  return process_vm_writev(atoi(arguments[1]), &from, 1, &to, 1, 0) == (ssize_t)from.iov_len ? 0 : 1;
}

// Children that run all at once while their parent goes on changing what they have been given.
static void burst(void) {
  enum { kChildren = 32 };
  pid_t children[kChildren];
  fflush(stdout);
  for (int i = 0; i < kChildren; ++i) {
    children[i] = fork();
    if (children[i] == 0) _exit((int)(sum(memory, PAGES) % 251));
    memory[(size_t)(i / 2 * 3) * PAGE] += 1;
    if (i % 3 == 0) memory[(size_t)(4000 + i) * PAGE + 77] += 1;
    for (size_t page = PAGES - 4096; page < PAGES; page += (size_t)(1 + i % 2)) memory[page * PAGE] += 1;
  }
  for (int i = 0; i < kChildren; ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    printf(" %d", WEXITSTATUS(status));
  }
  printf("\n");
}

static volatile int stop;
static void* writes(void* unused) {
  (void)unused;
  while (!stop) memory[9 * PAGE] ^= 0;
  return NULL;
}

static unsigned char* anonymous(size_t size) {
  unsigned char* at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) exit(1);
  return at;
}

int main(int count, char** arguments) {
  if (count == 4) return write_to(arguments);
  memory = anonymous(SIZE);
  handled = anonymous(2 << 20);
  memset(handled, 1, 2 << 20);
  for (size_t at = 0; at < SIZE; ++at) memory[at] = (unsigned char)(at / PAGE + at % 251);
  pthread_atfork(before, in_parent, in_child);
  for (int i = 0; i < 6; ++i) report("unchanged");
  for (int i = 0; i < 4; ++i) {
    memory[(size_t)i * 100 * PAGE] += 7;
    report("one byte");
  }
  burst();
  burst();
  int ends[2];
  if (pipe(ends) != 0) return 1;
  for (int i = 0; i < 3; ++i) {
    write(ends[1], "0123456789", 10);
    read(ends[0], memory + (size_t)(7 + i) * PAGE + 70, 10);
    report("read by the kernel");
  }
  for (int i = 0; i < 3; ++i) {
    write_from_outside((size_t)(40 + i) * PAGE + 70, i % 2 == 0 ? "abcdefghijk" : "lmnopqrstuv");
    report("written by another process");
    write_as_file((size_t)(50 + i) * PAGE + 70);
    report("written as a file");
  }
  for (int i = 0; i < 4; ++i) {
    for (size_t at = 60; at < PAGES; at += 512) madvise(memory + at * PAGE, 3 * PAGE, MADV_DONTNEED);
    report("thrown away here and there");
  }
  madvise(memory + 200 * PAGE, 50 * PAGE, MADV_DONTNEED);
  report("thrown away");
  memory[210 * PAGE] = 1;
  report("written after that");
  report("and not");
  munmap(memory + 400 * PAGE, 600 * PAGE);
  mmap(memory + 400 * PAGE, 600 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
       0);
  report("mapped anew");
  for (int i = 0; i < 3; ++i) {
    memory[(size_t)(500 + i) * PAGE] = 5;
    report("and written");
  }
  moved = mremap(memory + 2048 * PAGE, 512 * PAGE, 512 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                 anonymous(512 * PAGE));
  mmap(memory + 2048 * PAGE, 512 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
       0);
  for (int i = 0; i < 3; ++i) {
    report("moved");
    moved[(size_t)i * PAGE] += 3;
  }
  mprotect(memory + 1024 * PAGE, 256 * PAGE, PROT_READ);
  report("protected");
  mprotect(memory + 1024 * PAGE, 256 * PAGE, PROT_READ | PROT_WRITE);
  for (int i = 0; i < 3; ++i) {
    memory[(size_t)(1024 + i) * PAGE] += 1;
    report("and not protected");
  }
  pthread_t thread;
  pthread_create(&thread, NULL, writes, NULL);
  memory[30 * PAGE] += 1;
  report("with a thread");
  memory[30 * PAGE] += 1;
  report("with a thread");
  stop = 1;
  pthread_join(thread, NULL);
  for (int i = 0; i < 3; ++i) {
    memory[(size_t)(30 + i) * PAGE] += 1;
    report("without");
  }
  unsigned char* more = anonymous(SIZE / 4);
  memset(more, 8, SIZE / 4);
  moved = more;
  for (int i = 0; i < 3; ++i) {
    more[(size_t)i * 3 * PAGE] += 1;
    memory[(size_t)i * 5 * PAGE] += 1;
    report("more");
  }
  FILE* file = tmpfile();
  if (file == NULL || ftruncate(fileno(file), 1024 * (off_t)PAGE) != 0) return 1;
  moved = mmap(NULL, 1024 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
  if (moved == MAP_FAILED) return 1;
  for (int i = 0; i < 6; ++i) {
    if (i < 4) moved[(size_t)(i * 100) * PAGE] += 1;
    if (i == 4 && pwrite(fileno(file), "file", 4, 300 * (off_t)PAGE) != 4)
      return 1;  // behind what was written
    if (i == 5) madvise(moved + 200 * PAGE, PAGE, MADV_DONTNEED);
    report("of a file");
  }
  fclose(file);
  memset(memory + 3000 * PAGE, 0, 300 * PAGE);
  report("zeros");
  memset(memory, 0, SIZE);
  report("all zeros");
  memory[0] = 1;
  report("end");
  return 0;
}

// forks: 37
// Pipes whose ends two or more children have and their parent has not: on one worker they become that worker's
// own while they are used. Everything is as if they had always been.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kWarm = 60 };  // reads of a byte each, more than it takes until home looks

static int data[2], back[2];  // to the reader, and to the writer
static int aside[2];          // to the reader, too
static const char* scene;

static void Say(const char* what, long value) {
  printf("%s, %s: %ld\n", scene, what, value);
  fflush(stdout);
}

static void Check(int good, const char* what) {
  if (good) return;
  printf("%s, %s: WRONG, errno %d\n", scene, what, errno);
  fflush(stdout);
  _exit(1);
}

// The writer writes a byte and waits for the other, again and again.
static void WarmWriter(void) {
  for (int i = 0; i < kWarm; ++i) {
    char byte = 'w';
    Check(write(data[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1 && byte == 'r', "warm writer");
  }
}
static void WarmReader(void) {
  for (int i = 0; i < kWarm; ++i) {
    char byte = 0;
    Check(read(data[0], &byte, 1) == 1 && byte == 'w', "warm reader");
    byte = 'r';
    Check(write(back[1], &byte, 1) == 1, "warm reader's answer");
  }
}
static void Go(int to) { Check(write(to, "g", 1) == 1, "go"); }
static void Await(int from) {
  char byte;
  Check(read(from, &byte, 1) == 1 && byte == 'g', "await");
}

static void Play(const char* name, void (*reads)(void), void (*writes)(void)) {
  scene = name;
  fflush(stdout);
  if (pipe(data) != 0 || pipe(back) != 0 || pipe(aside) != 0) exit(1);
  pid_t children[2];
  for (int i = 0; i < 2; ++i) {
    children[i] = fork();
    if (children[i] != 0) continue;
    close(i == 0 ? data[1] : data[0]);
    close(i == 0 ? back[0] : back[1]);
    (i == 0 ? reads : writes)();
    fflush(stdout);
    _exit(0);
  }
  close(data[0]), close(data[1]), close(back[0]), close(back[1]), close(aside[0]), close(aside[1]);
  for (int i = 0; i < 2; ++i) {
    int status = 0;
    waitpid(children[i], &status, 0);
    if (status != 0) printf("%s: %s ends with %#x\n", name, i == 0 ? "reader" : "writer", status);
  }
}

// ---- The end, and nobody to read

static void ReadToEnd(void) {
  WarmReader();
  char buffer[300];
  long bytes = 0, sum = 0;
  for (ssize_t got; (got = read(data[0], buffer, sizeof buffer)) != 0; bytes += got) {
    Check(got > 0, "read");
    for (ssize_t i = 0; i < got; ++i) sum += buffer[i];
  }
  Say("bytes", bytes);
  Say("sum", sum);
  Check(read(data[0], buffer, 1) == 0, "the end again");
}
static void WriteSome(void) {
  WarmWriter();
  for (int i = 0; i < 1000; ++i) dprintf(data[1], "line %d\n", i);
}

static void CloseEarly(void) {
  WarmReader();
  close(data[0]);
  Go(back[1]);
}
static void WriteForNobody(void) {
  WarmWriter();
  Await(back[0]);
  signal(SIGPIPE, SIG_IGN);
  Check(write(data[1], "x", 1) == -1, "a write that nobody reads");
  Say("EPIPE", errno == EPIPE);
  struct pollfd one = {data[1], POLLOUT, 0};
  poll(&one, 1, -1);
  Say("POLLERR", (one.revents & POLLERR) != 0);
  signal(SIGPIPE, SIG_DFL);
  if (write(data[1], "x", 1) < 0) Say("no signal", errno);
}

// ---- Flags, sizes, readiness

static void NonBlockingReader(void) {
  WarmReader();
  char buffer[100];
  Check(fcntl(data[0], F_SETFL, O_NONBLOCK) == 0, "F_SETFL");
  Say("flags", fcntl(data[0], F_GETFL) & (O_NONBLOCK | O_DIRECT | O_ACCMODE));
  Check(read(data[0], buffer, 1) == -1 && errno == EAGAIN, "nothing there");
  Say("size", fcntl(data[0], F_GETPIPE_SZ));
  Go(back[1]);
  Await(aside[0]);
  int there = -1;
  Check(ioctl(data[0], FIONREAD, &there) == 0, "FIONREAD");
  Say("there", there);
  long total = 0;
  for (char block[1000]; total < there;) {
    const ssize_t got = read(data[0], block, sizeof block);
    Check(got > 0, "what is there");
    total += got;
  }
  Check(read(data[0], buffer, 1) == -1 && errno == EAGAIN, "nothing there any more");
  Go(back[1]);
  struct pollfd one = {data[0], POLLIN, 0};
  Say("poll", poll(&one, 1, -1));
  Say("what", one.revents);
}
static void FillingWriter(void) {
  WarmWriter();
  Await(back[0]);
  Check(fcntl(data[1], F_SETFL, O_NONBLOCK) == 0, "F_SETFL");
  Say("flags", fcntl(data[1], F_GETFL) & (O_NONBLOCK | O_DIRECT | O_ACCMODE));
  long total = 0;
  char block[4096];
  memset(block, 'f', sizeof block);
  for (ssize_t put; (put = write(data[1], block, sizeof block)) > 0;) total += put;
  Say("EAGAIN", errno == EAGAIN);
  Say("taken", total);
  Go(aside[1]);
  struct pollfd one = {data[1], POLLOUT, 0};
  Await(back[0]);
  Say("room", poll(&one, 1, -1));
}

static void Watch(int how) {
  fd_set set;
  struct pollfd one = {data[0], POLLIN, 0};
  static int epoll = -1;
  FD_ZERO(&set);
  FD_SET(data[0], &set);
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = 77};
  if (how == 2 && epoll < 0) {
    epoll = epoll_create1(0);
    Check(epoll_ctl(epoll, EPOLL_CTL_ADD, data[0], &event) == 0, "EPOLL_CTL_ADD");
  }
  const int ready = how == 0   ? poll(&one, 1, -1)
                    : how == 1 ? select(data[0] + 1, &set, NULL, NULL, NULL)
                               : epoll_wait(epoll, &event, 1, -1);
  Check(ready == 1, "readiness");
  if (how == 0) Check((one.revents & (POLLIN | POLLHUP)) != 0, "poll");
  if (how == 2) Check(event.data.u64 == 77, "epoll's data");
}
static void WatchingReader(int how, int from) {
  char byte;
  for (int i = 0; i < 200; ++i) {
    if (i >= from) Watch(how);
    Check(read(data[0], &byte, 1) == 1, "a byte");
    Check(write(back[1], &byte, 1) == 1, "answer");
  }
  Watch(how);
  Check(read(data[0], &byte, 1) == 0, "the end");
  Say("watched from", from);
}
static void PollAlways(void) { WatchingReader(0, 0); }
static void PollLater(void) { WatchingReader(0, 100); }
static void SelectAlways(void) { WatchingReader(1, 0); }
static void EpollAlways(void) { WatchingReader(2, 0); }
static void EpollLater(void) { WatchingReader(2, 100); }
static void AnsweredWriter(void) {
  char byte = 'a';
  for (int i = 0; i < 200; ++i)
    Check(write(data[1], &byte, 1) == 1 && read(back[0], &byte, 1) == 1, "answered");
}

// ---- Several of each

static void* ReadRecords(void* sum) {
  char record[64];
  for (ssize_t got; (got = read(data[0], record, sizeof record)) != 0;) {
    Check(got == sizeof record, "a whole record");
    for (int i = 1; i < 64; ++i) Check(record[i] == record[0], "of one writer");
    __atomic_fetch_add((long*)sum, record[0], __ATOMIC_RELAXED);
  }
  return NULL;
}
static void SeveralReaders(void) {
  long sum = 0;
  int sums[2];
  Check(pipe(sums) == 0, "pipe");
  pid_t children[2];
  for (int i = 0; i < 2; ++i) {
    children[i] = fork();
    if (children[i] == 0) {
      ReadRecords(&sum);
      Check(write(sums[1], &sum, sizeof sum) == sizeof sum, "sum");
      _exit(0);
    }
  }
  pthread_t thread;
  pthread_create(&thread, NULL, ReadRecords, &sum);
  ReadRecords(&sum);
  pthread_join(thread, NULL);
  for (int i = 0; i < 2; ++i) {
    long part = 0;
    Check(read(sums[0], &part, sizeof part) == sizeof part, "sum of a child");
    sum += part;
    waitpid(children[i], NULL, 0);
  }
  Say("sum", sum);
}
static void SeveralWriters(void) {
  pid_t children[3];
  for (int w = 0; w < 3; ++w) {
    children[w] = fork();
    if (children[w] != 0) continue;
    char record[64];
    memset(record, 'a' + w, sizeof record);
    for (int i = 0; i < 5000; ++i) Check(write(data[1], record, sizeof record) == sizeof record, "record");
    _exit(0);
  }
  for (int w = 0; w < 3; ++w) waitpid(children[w], NULL, 0);
}

// ---- Much

static uint32_t Next(uint32_t* state) { return *state = *state * 1664525 + 1013904223; }
static void ReadMuch(void) {
  static unsigned char buffer[200000];
  uint32_t sizes = 1, values = 7;
  long total = 0;
  for (;;) {
    const ssize_t got = read(data[0], buffer, 1 + Next(&sizes) % sizeof buffer);
    Check(got >= 0, "read");
    if (got == 0) break;
    for (ssize_t i = 0; i < got; ++i, ++total)
      Check(buffer[i] == (unsigned char)(Next(&values) >> 24), "each byte in its place");
  }
  Say("total", total);
}
static void WriteMuch(void) {
  static unsigned char buffer[150000];
  uint32_t sizes = 3, values = 7;
  for (long left = 100L << 20; left > 0;) {
    long size = 1 + Next(&sizes) % (sizes % 7 == 0 ? sizeof buffer : 5000);
    if (size > left) size = left;
    for (long i = 0; i < size; ++i) buffer[i] = (unsigned char)(Next(&values) >> 24);
    for (long done = 0; done < size;) {
      const ssize_t put = write(data[1], buffer + done, size - done);
      Check(put > 0, "write");
      done += put;
    }
    left -= size;
  }
}

// ---- Numbers, forks, programs, threads

static void ManyNumbers(void) {
  const int two = dup(data[0]), three = fcntl(data[0], F_DUPFD_CLOEXEC, 50);
  WarmReader();
  Say("close-on-exec", fcntl(data[0], F_GETFD) * 10 + fcntl(three, F_GETFD));
  char byte;
  Check(read(two, &byte, 1) == 1 && byte == '1', "by another number");
  close(data[0]);
  Check(dup2(three, 60) == 60, "dup2");
  Check(read(60, &byte, 1) == 1 && byte == '2', "by a copy of the third");
  close(two), close(60);
  if (fork() == 0) {
    Check(read(three, &byte, 1) == 1 && byte == '3', "by a child");
    _exit(0);
  }
  wait(NULL);
  Go(back[1]);
  dup2(three, 0);
  execlp("cat", "cat", "-", (char*)NULL);
}
static void WriterOfNumbers(void) {
  WarmWriter();
  Check(write(data[1], "123", 3) == 3, "three");
  Await(back[0]);
  dup2(data[1], 1);
  close(data[1]);
  execlp("sh", "sh", "-c", "echo by a program; (echo and by its child)", (char*)NULL);
}

static void* ReadOne(void* answer) {
  *(char*)answer = 0;
  if (read(data[0], answer, 1) != 1) *(char*)answer = '-';
  return NULL;
}
static void* Shuffle(void* stop) {
  while (!__atomic_load_n((int*)stop, __ATOMIC_RELAXED)) {
    const int one = dup(data[0]), null = open("/dev/null", O_RDONLY);
    char byte;
    Check(read(null, &byte, 1) == 0, "what was opened is what is read");
    dup2(null, one);
    Check(read(one, &byte, 1) == 0, "what was copied, too");
    close(one), close(null);
  }
  return NULL;
}
static void ThreadedReader(void) {
  int stop = 0;
  pthread_t shuffles;
  pthread_create(&shuffles, NULL, Shuffle, &stop);
  WarmReader();
  stop = 1;
  pthread_join(shuffles, NULL);
  pthread_t reads;
  char answer = 0;
  const int kept = dup(data[0]);
  pthread_create(&reads, NULL, ReadOne, &answer);
  usleep(100000);  // it waits in the kernel, mostly; the answer is the same if not yet
  close(data[0]);
  data[0] = kept;
  Go(back[1]);
  pthread_join(reads, NULL);
  Say("read while closed", answer);
}
static void WriteToThread(void) {
  WarmWriter();
  Await(back[0]);
  Check(write(data[1], "tttt", 4) == 4, "to a thread");
}

static void OnAlarm(int signal) { (void)signal; }
static void InterruptedReader(void) {
  struct sigaction action = {.sa_handler = OnAlarm};
  sigaction(SIGALRM, &action, NULL);
  struct itimerval soon = {{0, 0}, {0, 30000}};
  char byte;
  for (int i = 0; i < 40; ++i) {
    if (i % 4 == 0) {
      setitimer(ITIMER_REAL, &soon, NULL);
      Check(read(data[0], &byte, 1) == -1 && errno == EINTR, "EINTR");
    }
    Go(back[1]);
    Check(read(data[0], &byte, 1) == 1 && byte == 'i', "after it");
  }
  Say("interrupted", 10);
}
static void WriterWhenAsked(void) {
  for (int i = 0; i < 40; ++i) {
    Await(back[0]);
    Check(write(data[1], "i", 1) == 1, "when asked");
  }
}

static void StdioReader(void) {
  FILE* stream = fdopen(data[0], "r");
  char line[40], wanted[40];
  for (int i = 0; i < 3000; ++i) {
    snprintf(wanted, sizeof wanted, "line %d\n", i);
    Check(fgets(line, sizeof line, stream) != NULL && strcmp(line, wanted) == 0, "line");
  }
  Check(fgets(line, sizeof line, stream) == NULL && feof(stream), "end of file");
  Say("lines", 3000);
}
static void StdioWriter(void) {
  FILE* stream = fdopen(data[1], "w");
  for (int i = 0; i < 3000; ++i) {
    fprintf(stream, "line %d\n", i);
    if (i % 7 == 0 || i < 200) fflush(stream);
  }
  fclose(stream);
}

// ---- Home gets an end again

static int home[2];
static void PassOn(int end) {
  char byte = 'p';
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof end);
  memcpy(CMSG_DATA(header), &end, sizeof end);
  Check(sendmsg(home[1], &message, 0) == 1, "sendmsg");
}
static int Receive(void) {
  char byte;
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control = {0};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  Check(recvmsg(home[0], &message, 0) == 1, "recvmsg");
  int end = -1;
  memcpy(&end, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof end);
  return end;
}
static void PassingReader(void) {
  WarmReader();
  PassOn(data[0]);
}
static void PassingWriter(void) {
  WarmWriter();
  dprintf(data[1], "to whoever reads it");
  PassOn(data[1]);
}

int main(void) {
  Play("end", ReadToEnd, WriteSome);
  Play("nobody reads", CloseEarly, WriteForNobody);
  Play("not waiting", NonBlockingReader, FillingWriter);
  Play("poll", PollAlways, AnsweredWriter);
  Play("poll later", PollLater, AnsweredWriter);
  Play("select", SelectAlways, AnsweredWriter);
  Play("epoll", EpollAlways, AnsweredWriter);
  Play("epoll later", EpollLater, AnsweredWriter);
  Play("several", SeveralReaders, SeveralWriters);
  Play("much", ReadMuch, WriteMuch);
  Play("numbers", ManyNumbers, WriterOfNumbers);
  Play("threads", ThreadedReader, WriteToThread);
  Play("signals", InterruptedReader, WriterWhenAsked);
  Play("stdio", StdioReader, StdioWriter);
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, home) != 0) return 1;
  Play("home again", PassingReader, PassingWriter);
  close(home[1]);
  // In whatever order they came.
  int ends[2] = {Receive(), Receive()};
  const int first_reads = (fcntl(ends[0], F_GETFL) & O_ACCMODE) == O_RDONLY;
  const int reads = ends[first_reads ? 0 : 1], writes = ends[first_reads ? 1 : 0];
  dprintf(writes, ", also at home");
  close(writes);
  char text[100];
  ssize_t size = 0;
  for (ssize_t got; (got = read(reads, text + size, sizeof text - 1 - size)) > 0;) size += got;
  text[size] = 0;
  printf("home again: %s\n", text);
  return 0;
}

/* Signals and tokens that come to a waiter at the same time, under fake_agent (see its moments). With a handler that
 * interrupts, the wait ends with EINTR and the token is there for others; with one that restarts, it is taken. */
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { kGrantedAtOnce, kSignalThenGrant, kGrantThenSignal };

static volatile sig_atomic_t handled;
static int failures;

static void Handle(int number) {
  (void)number;
  ++handled;
}

static void Install(int flags) {
  struct sigaction action = {0};
  action.sa_handler = Handle;
  action.sa_flags = flags;
  sigaction(SIGUSR1, &action, NULL);
  struct sigaction installed;
  sigaction(SIGUSR1, NULL, &installed);
  if (installed.sa_handler != Handle || (installed.sa_flags & (SA_SIGINFO | SA_RESTART)) != flags) abort();
}

static int Wait(sem_t* semaphore) {
  return sem_wait(semaphore);
}
static int TryWait(sem_t* semaphore) {
  return sem_trywait(semaphore);
}
static int TimedWait(sem_t* semaphore) {
  struct timespec end;
  clock_gettime(CLOCK_REALTIME, &end);
  end.tv_sec += 1000;
  return sem_timedwait(semaphore, &end);
}

/* `error`: 0 for a token that is taken, and then posted again here. */
static void Expect(const char* what, int (*wait)(sem_t*), int moment, int flags, int error) {
  sem_t* semaphore = sem_open("/moment", O_CREAT, 0600, (unsigned)moment);
  Install(flags);
  handled = 0;
  errno = 0;
  int result = wait(semaphore), got = errno, value = -1;
  if (result == 0) sem_post(semaphore);
  sem_getvalue(semaphore, &value);
  int right = (result == 0 ? 0 : got) == error && value == 1 && handled == (moment != kGrantedAtOnce);
  if (!right) {
    printf("%s at moment %d, flags %#x: result %d, %s, value %d, handled %d\n", what, moment, flags, result, strerror(got),
           value, (int)handled);
    ++failures;
  }
  sem_close(semaphore);
}

int main(void) {
  const int on_worker = atoi(getenv("ELSEWHERE_HOST") ? getenv("ELSEWHERE_HOST") : "0") != 0;
  struct {
    const char* name;
    int (*wait)(sem_t*);
  } calls[] = {{"sem_wait", Wait}, {"sem_trywait", TryWait}, {"sem_timedwait", TimedWait}};
  for (int i = 0; i < 3; ++i) {
    Expect(calls[i].name, calls[i].wait, kGrantedAtOnce, 0, 0);
    Expect(calls[i].name, calls[i].wait, kSignalThenGrant, 0, EINTR);
    if (!on_worker) continue;
    /* At home handlers are not counted: there the token may also be kept. */
    Expect(calls[i].name, calls[i].wait, kGrantThenSignal, 0, EINTR);
    Expect(calls[i].name, calls[i].wait, kGrantThenSignal, SA_RESTART, calls[i].wait == TimedWait ? EINTR : 0);
  }
  return failures != 0;
}

/* forks: 24
 * A child that was killed and waited for does nothing any more: what it wrote is there, nothing comes after
 * it, and a lock that it waited for is not given to it. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static off_t size_of(int file) {
  struct stat status;
  fstat(file, &status);
  return status.st_size;
}

enum { kWays = 6 };

/* Each function that waits, by itself, and one behind what tells of the end and leaves it. */
static int reap(pid_t child, int how, sigset_t* ended) {
  int status = 0;
  pid_t reaped;
  siginfo_t info;
  if (how == 1) {
    waitid(P_PID, (id_t)child, &info, WEXITED);
    return info.si_code == CLD_KILLED ? info.si_status : -2;
  }
  if (how == 2) waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
  if (how == 3) sigwaitinfo(ended, &info);
  if (how == 4) {
    reaped = wait(&status);
  } else if (how == 5) {
    reaped = wait4(child, &status, 0, NULL);
  } else {
    reaped = waitpid(child, &status, how == 0 ? 0 : WNOHANG);
  }
  if (reaped != child) return -1;
  return WIFSIGNALED(status) ? WTERMSIG(status) : -2;
}

/* A signal that was left by an earlier end would be taken for the next one. */
static void forget_ends(sigset_t* ended) {
  while (sigtimedwait(ended, NULL, &(struct timespec){0}) > 0) continue;
}

static void sleep_ms(long time) {
  nanosleep(&(struct timespec){.tv_nsec = time * 1000000}, NULL);
}

/* Whether nobody has the lock that the child waited for when it was killed. */
static void print_whether_free(pthread_mutex_t* lock, int how, sigset_t* ended) {
  int began[2];
  char word;
  pipe(began);
  forget_ends(ended);
  pid_t child = fork();
  if (child == 0) {
    write(began[1], "b", 1);
    for (;;) {
      pthread_mutex_lock(lock);
      pthread_mutex_unlock(lock);
    }
  }
  read(began[0], &word, 1);
  pthread_mutex_lock(lock);
  sleep_ms(2); /* it usually waits by then */
  kill(child, SIGKILL);
  const int signal = reap(child, how, ended);
  pthread_mutex_unlock(lock);
  sleep_ms(20); /* time for whoever is not dead */
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 2;
  const int taken = pthread_mutex_timedlock(lock, &until) == 0;
  if (taken) pthread_mutex_unlock(lock);
  close(began[0]);
  close(began[1]);
  printf("%d %s\n", signal, taken ? "free" : "lost");
}

int main(void) {
  char name[] = "/tmp/kill-reaped-XXXXXX";
  int file = mkstemp(name);
  close(file);
  file = open(name, O_WRONLY | O_APPEND);
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ended, NULL);
  for (int i = 0; i < 12; ++i) {
    forget_ends(&ended);
    pid_t child = fork();
    if (child == 0) {
      for (;;) write(file, "x", 1);
    }
    const off_t begin = size_of(file);
    while (size_of(file) < begin + 1000) sched_yield();
    kill(child, SIGKILL);
    const int signal = reap(child, i % kWays, &ended);
    const off_t before = size_of(file);
    sleep_ms(50);
    printf("%d %s\n", signal, size_of(file) == before ? "quiet" : "goes on");
  }
  unlink(name);
  pthread_mutex_t* lock = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t shared;
  pthread_mutexattr_init(&shared);
  pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(lock, &shared);
  for (int i = 0; i < 12; ++i) print_whether_free(lock, i % kWays, &ended);
  return 0;
}

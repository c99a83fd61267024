/* forks: 4
 * What a signal says of itself is the same wherever sender and receiver run: kind, sender, user, value; in handlers, for
 * sigwaitinfo and read from a signalfd that was made before the fork or after it. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t count;
static siginfo_t last;

static void handler(int signal, siginfo_t* info, void* context) {
  (void)signal;
  (void)context;
  last = *info;
  ++count;
}

static void wait_for(int wanted, const sigset_t* open) {
  while (count < wanted) sigsuspend(open);
}

static int to_child[2], to_parent[2];

static void say(int pipe[2]) {
  if (write(pipe[1], "x", 1) != 1) _exit(98);
}
static void hear(int pipe[2]) {
  char byte;
  if (read(pipe[0], &byte, 1) != 1) _exit(97);
}

static int is(const siginfo_t* info, int code, pid_t sender, int value) {
  return info->si_code == code && info->si_errno == 0 && info->si_pid == sender && info->si_uid == getuid() &&
         (code != SI_QUEUE || info->si_value.sival_int == value);
}

static int is_read(int fd, int signal, int code, pid_t sender, int value) {
  struct signalfd_siginfo info;
  if (read(fd, &info, sizeof info) != sizeof info) return 0;
  return (int)info.ssi_signo == signal && info.ssi_code == code && info.ssi_errno == 0 &&
         (pid_t)info.ssi_pid == sender && info.ssi_uid == getuid() && info.ssi_int == value;
}

/* Sends one of each kind, each after the other has taken the one before. */
static void send_all(pid_t to, int answers[2]) {
  union sigval with = {.sival_int = 42};
  for (int i = 0; i < 4; ++i) {
    kill(to, SIGUSR1);
    hear(answers);
    sigqueue(to, SIGUSR2, with);
    hear(answers);
  }
}

/* Eight facts about what send_all sent. */
static int receive_all(pid_t from, int before, int answers[2], const sigset_t* open) {
  sigset_t both;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  int good = 0;
  wait_for(count + 1, open);
  good += is(&last, SI_USER, from, 0);
  say(answers);
  wait_for(count + 1, open);
  good += is(&last, SI_QUEUE, from, 42);
  say(answers);
  siginfo_t info;
  good += sigwaitinfo(&both, &info) == SIGUSR1 && is(&info, SI_USER, from, 0);
  say(answers);
  good += sigwaitinfo(&both, &info) == SIGUSR2 && is(&info, SI_QUEUE, from, 42);
  say(answers);
  good += is_read(before, SIGUSR1, SI_USER, from, 0);
  say(answers);
  good += is_read(before, SIGUSR2, SI_QUEUE, from, 42);
  say(answers);
  int after = signalfd(-1, &both, 0), copy = dup(after);
  good += is_read(after, SIGUSR1, SI_USER, from, 0);
  say(answers);
  good += is_read(copy, SIGUSR2, SI_QUEUE, from, 42);
  say(answers);
  return good;
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
  sigset_t both, open;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  sigprocmask(SIG_BLOCK, &both, &open);
  int before = signalfd(-1, &both, 0);
  if (pipe(to_child) != 0 || pipe(to_parent) != 0) return 1;
  const pid_t home = getpid();

  pid_t pid = fork();
  if (pid == 0) _exit(receive_all(home, before, to_parent, &open));
  send_all(pid, to_parent);
  int status = 0;
  waitpid(pid, &status, 0);
  printf("home to worker: %d of 8\n", WEXITSTATUS(status));

  pid = fork();
  if (pid == 0) {
    send_all(home, to_child);
    _exit(0);
  }
  printf("worker to home: %d of 8\n", receive_all(pid, before, to_child, &open));
  waitpid(pid, &status, 0);

  /* Two on one worker, and handlers as the program installed them. */
  pid = fork();
  if (pid == 0) {
    struct sigaction old;
    sigaction(SIGUSR1, NULL, &old);
    int good = old.sa_sigaction == handler && (old.sa_flags & SA_SIGINFO) != 0;
    const pid_t outer = getpid();
    pid_t inner = fork();
    if (inner == 0) {
      send_all(outer, to_child);
      _exit(0);
    }
    good += receive_all(inner, before, to_child, &open);
    siginfo_t info;
    memset(&info, 0, sizeof info);
    good += waitid(P_PID, (id_t)inner, &info, WEXITED) == 0 && info.si_pid == inner && info.si_code == CLD_EXITED;
    _exit(good);
  }
  waitpid(pid, &status, 0);
  printf("on a worker: %d of 10\n", WEXITSTATUS(status));
  return 0;
}

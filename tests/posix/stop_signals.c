/* forks: 3
 * A remote child stops by every signal that stops, wherever it comes from, and its parent sees which one it was. While
 * it is stopped it does nothing: what is sent to it stays unanswered until it goes on. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int to_child[2], to_parent[2];

static void say(char what) {
  if (write(to_parent[1], &what, 1) != 1) _exit(99);
}

static char heard(void) {
  char what = 0;
  return read(to_parent[0], &what, 1) == 1 ? what : '?';
}

static void on_continue(int signal) {
  (void)signal;
  say('c');
}

/* Answers each byte by the next letter. */
static void echo(void) {
  for (;;) {
    char byte;
    ssize_t got = read(to_child[0], &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got != 1) _exit(0);
    say((char)(byte + 1));
  }
}

static void expect_stop(pid_t pid, int signal) {
  int status = 0;
  pid_t got = waitpid(pid, &status, WUNTRACED);
  printf("%s: %d stopped %d by %s\n", sigabbrev_np(signal), got == pid, WIFSTOPPED(status),
         WIFSTOPPED(status) ? sigabbrev_np(WSTOPSIG(status)) : "none");
}

static void expect_continue(pid_t pid) {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  int result = waitid(P_PID, (id_t)pid, &info, WCONTINUED);
  printf("continued %d %d %d\n", result, info.si_code == CLD_CONTINUED, info.si_status == SIGCONT);
}

static pid_t start(void) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  setpgid(0, 0);
  signal(SIGCONT, on_continue);
  say('r');
  echo();
  return 0;
}

/* The process is stopped: what asks it for an answer brings none. A stopped process cannot race with that: were it not
 * stopped, its answer would be first in the pipe, before that of its handler for SIGCONT. */
static void check_silence_and_continue(pid_t pid) {
  if (write(to_child[1], "a", 1) != 1) exit(1);
  kill(pid, SIGCONT);
  expect_continue(pid);
  printf("%c", heard());
  printf("%c\n", heard());
}

int main(void) {
  setvbuf(stdout, NULL, _IONBF, 0);
  if (pipe(to_child) != 0 || pipe(to_parent) != 0) return 1;
  pid_t pid = start();
  printf("%c\n", heard());
  const int signals[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGSTOP};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; ++i) {
    kill(i % 2 == 0 ? pid : -pid, signals[i]);
    expect_stop(pid, signals[i]);
    check_silence_and_continue(pid);
  }
  /* A child of a child: its own parent sees the stop on its host. */
  pid_t outer = fork();
  if (outer == 0) {
    int good = 0, status = 0;
    setpgid(0, 0);
    pid_t inner = fork();
    if (inner == 0) {
      for (;;) pause();
    }
    kill(inner, SIGSTOP);
    good += waitpid(inner, &status, WUNTRACED) == inner && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP;
    kill(inner, SIGCONT);
    good += waitpid(inner, &status, WCONTINUED) == inner && WIFCONTINUED(status);
    kill(inner, SIGTSTP);
    good += waitpid(inner, &status, WUNTRACED) == inner && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTSTP;
    kill(inner, SIGKILL);
    good += waitpid(inner, &status, 0) == inner && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    /* It stops itself. */
    raise(SIGSTOP);
    good += 10;
    raise(SIGTSTP);
    _exit(good);
  }
  expect_stop(outer, SIGSTOP);
  kill(outer, SIGCONT);  /* that it goes on is seen only until it stops again, which it does at once */
  expect_stop(outer, SIGTSTP);
  kill(outer, SIGCONT);
  int status = 0;
  printf("%d", waitpid(outer, &status, 0) == outer);
  printf(" %d\n", WEXITSTATUS(status));
  /* Killed while it is stopped. */
  kill(pid, SIGSTOP);
  expect_stop(pid, SIGSTOP);
  kill(pid, SIGKILL);
  printf("%d", waitpid(pid, &status, 0) == pid);
  printf(" by %d\n", WTERMSIG(status));
  return 0;
}

// A child that runs one function, and what it ended with.
#pragma once
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t start(void (*run)(void)) {
  fflush(stdout);
  const pid_t child = fork();
  if (child != 0) return child;
  run();
  fflush(stdout);
  _exit(0);
}
static void finish(pid_t child) {
  int status;
  waitpid(child, &status, 0);
  printf("status %#x\n", status);
}

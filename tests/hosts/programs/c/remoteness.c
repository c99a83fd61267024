/* forks: 1
 * alone: a native run prints something else, so it is only run under elsewhere.
 * What the kernel says about a remote child: another pid than getpid() answers, in another pid namespace. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long pid_in_proc(void) {
  long pid = -1;
  FILE* stat = fopen("/proc/self/stat", "r");
  if (stat == NULL || fscanf(stat, "%ld", &pid) != 1) pid = -1;
  if (stat != NULL) fclose(stat);
  return pid;
}

/* syscall() answers as getpid() does. */
static long pid_of_kernel(void) {
  long pid = SYS_getpid;
  __asm__ volatile("syscall" : "+a"(pid) : : "rcx", "r11", "memory");
  return pid;
}

int main(void) {
  char home[64] = "", here[64] = "";
  if (readlink("/proc/self/ns/pid", home, sizeof home - 1) < 0) return 2;
  pid_t child = fork();
  if (child == 0) {
    if (readlink("/proc/self/ns/pid", here, sizeof here - 1) < 0) return 2;
    printf("kernel pid differs: %d\n", pid_of_kernel() != getpid());
    printf("/proc/self/stat differs: %d\n", pid_in_proc() != getpid());
    printf("pid namespace differs: %d\n", strcmp(home, here) != 0);
    fflush(stdout);
    _exit(0);
  }
  int status = 0;
  printf("waited for the child: %d\n", waitpid(child, &status, 0) == child && status == 0);
  return 0;
}

/* forks: 3
 * What remote children used is what their parent is told. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void burn(double seconds) {
  struct timespec used;
  do {
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  } while ((double)used.tv_sec + (double)used.tv_nsec / 1e9 < seconds);
}

static double seconds(struct timeval user, struct timeval system) {
  return (double)(user.tv_sec + system.tv_sec) + (double)(user.tv_usec + system.tv_usec) / 1e6;
}

int main(void) {
  struct rusage usage;
  for (int i = 0; i < 3; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      burn(0.2);
      _exit(0);
    }
    wait4(pid, NULL, 0, &usage);
    const double used = seconds(usage.ru_utime, usage.ru_stime);
    printf("wait4 %d\n", used > 0.15 && used < 0.4);
  }
  getrusage(RUSAGE_CHILDREN, &usage);
  const double sum = seconds(usage.ru_utime, usage.ru_stime);
  printf("children %d\n", sum > 0.5 && sum < 1.2);
  struct tms all;
  times(&all);
  const double ticks = (double)(all.tms_cutime + all.tms_cstime) / (double)sysconf(_SC_CLK_TCK);
  printf("times %d\n", ticks > 0.45 && ticks < 1.2);
  getrusage(RUSAGE_SELF, &usage);
  printf("self %d\n", seconds(usage.ru_utime, usage.ru_stime) < 0.2);
  return 0;
}

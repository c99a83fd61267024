// The types that the table of interposed functions (hooks.def) speaks of.
#pragma once

#include <aio.h>
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <utime.h>
#include <utmp.h>

// Of functions whose parameters are functions.
using scan_filter = int (*)(const struct dirent*);
using scan_compare = int (*)(const struct dirent**, const struct dirent**);
using glob_error = int (*)(const char*, int);
using tree_visit = int (*)(const char*, const struct stat*, int, struct FTW*);
using tree_compare = int (*)(const FTSENT**, const FTSENT**);
using old_tree_visit = int (*)(const char*, const struct stat*, int);

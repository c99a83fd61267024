// semctl, msgctl and shmctl of a process on a worker.
#pragma once

#include <sys/ipc.h>

#include "preload/kernel_call.h"

namespace elsewhere::preload {

// The structures of one of them: which commands besides IPC_STAT, IPC_SET and IPC_INFO have one, and how
// large.
struct ControlStructures {
  int status_by_index, status_of_any, totals;  // SEM_STAT, SEM_STAT_ANY, SEM_INFO and their kin
  size_t status_size, limits_size, totals_size;
};

// Adds `argument` where `command` points to a structure; false: it does not.
inline bool AddStructure(const ControlStructures& known, int command, void* argument, KernelCall* call) {
  if (command == IPC_SET) {
    call->In(argument, known.status_size);
  } else if (command == IPC_STAT || command == known.status_by_index || command == known.status_of_any) {
    call->Out(argument, known.status_size);
  } else if (command == IPC_INFO) {
    call->Out(argument, known.limits_size);
  } else if (command == known.totals) {
    call->Out(argument, known.totals_size);
  } else {
    return false;
  }
  return true;
}

}  // namespace elsewhere::preload

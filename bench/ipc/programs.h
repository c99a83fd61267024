// What bench_ipc starts, natively and under `elsewhere run`: programs of two processes that hand something to
// and fro. For each line of standard input they make a round and print the microseconds of one turn.
#pragma once

#include <string_view>

namespace bench {

// Who plays.
enum class Pair {
  kParentAndChild,
  kTwoChildren,  // both where children go; the parent only waits
  kNobody,       // one process alone: what nobody else wants
};

// `what`: semaphores, mutex, readers (of a read-write lock), spin (lock), queues, pipe (whose ends only who
// plays has), kept-pipe (the parent has all). The exit status; 2: there is no such program.
int RunProgram(std::string_view what, Pair pair);

// Two bare clients of the Redis at `path` hand `size` bytes over by LPUSH and BLPOP.
int RunBareClients(const char* path, size_t size);

}  // namespace bench

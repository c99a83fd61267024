// elsewhere-runtime: one program, three modes (modes.h).
#include <malloc.h>

#include <cstdio>
#include <cstring>

#include "runtime/modes.h"

int main(int argc, char** argv) {
  using namespace elsewhere::runtime;
  // Messages of some hundred KB come and go: what they were in is kept for the next one. Given back to the
  // kernel each time, every page of it would be cleared again.
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
  mallopt(M_TRIM_THRESHOLD, 16 << 20);
  if (argc >= 2 && std::strcmp(argv[1], "agent") == 0) return AgentMain(argc - 2, argv + 2);
  if (argc >= 2 && std::strcmp(argv[1], "worker") == 0) return WorkerMain(argc - 2, argv + 2);
  if (argc >= 2 && std::strcmp(argv[1], "launch") == 0) return LaunchMain(argc - 2, argv + 2);
  std::fprintf(stderr, "elsewhere-runtime: this program is started by 'elsewhere'\n");
  return 125;
}

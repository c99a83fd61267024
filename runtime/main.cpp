// elsewhere-runtime: one program, three modes (modes.h).
#include <cstdio>
#include <cstring>

#include "runtime/modes.h"

int main(int argc, char** argv) {
  using namespace elsewhere::runtime;
  if (argc >= 2 && std::strcmp(argv[1], "agent") == 0) return AgentMain(argc - 2, argv + 2);
  if (argc >= 2 && std::strcmp(argv[1], "worker") == 0) return WorkerMain(argc - 2, argv + 2);
  if (argc >= 2 && std::strcmp(argv[1], "launch") == 0) return LaunchMain(argc - 2, argv + 2);
  std::fprintf(stderr, "elsewhere-runtime: this program is started by 'elsewhere'\n");
  return 125;
}

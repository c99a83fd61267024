#include "runtime/launch/host_probe.h"

#include <fcntl.h>
#include <linux/prctl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>
#include <sstream>

#include "runtime/launch/session_directory.h"
#include "shim/engine/local_engine.h"

namespace elsewhere::runtime {
namespace {

constexpr rlim_t kEnoughDescriptors = 4096;

// linux/fs.h of older headers lacks these (Linux 6.7).
struct PageRegion {
  uint64_t start, end, categories;
};
struct PageScanArgument {
  uint64_t size, flags, start, end, walk_end, vector, vector_length, most_pages;
  uint64_t inverted, mask, any_of, returned;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PageScanArgument);
constexpr uint64_t kPageIsPresent = 1ULL << 3;

// userfaultfd: asynchronous write protection (Linux 6.1).
constexpr uint64_t kWriteProtectAsync = 1ULL << 15;
constexpr int kUserModeOnly = 1;

std::string ErrnoText() {
  return std::strerror(errno);
}

Finding Cores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  sched_getaffinity(0, sizeof cores, &cores);
  return {Verdict::kOk, "cores", std::to_string(CPU_COUNT(&cores)), ""};
}

Finding Memory() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  unsigned long kilobytes = 0;
  unsigned long total = 0;
  unsigned long available = 0;
  while (file >> word >> kilobytes) {
    if (word == "MemTotal:") total = kilobytes;
    if (word == "MemAvailable:") available = kilobytes;
    file.ignore(64, '\n');
  }
  return {Verdict::kOk, "memory",
          std::to_string(available >> 10) + " of " + std::to_string(total >> 10) + " MiB available", ""};
}

Finding Processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line) && line.rfind("flags", 0) != 0) {
  }
  std::istringstream flags(line);
  std::string seen;
  for (std::string flag; flags >> flag;)
    for (const char* wanted : {"sse4_2", "avx", "avx2", "avx512f"})
      if (flag == wanted) seen += (seen.empty() ? "" : " ") + flag;
  return {Verdict::kOk, "processor features", seen.empty() ? "baseline x86-64" : seen, ""};
}

Finding Kernel() {
  utsname name = {};
  uname(&name);
  return {Verdict::kOk, "kernel", std::string(name.sysname) + " " + name.release, ""};
}

Finding Namespaces() {
  Status probed = engine::ProbeNamespaces();
  if (probed.ok()) return {Verdict::kOk, "namespaces", "user, pid, IPC, UTS and mount can be made", ""};
  return {Verdict::kDegraded, "namespaces", probed.error().message,
          "local workers are plain process trees that share pids and IPC names with home"};
}

Finding Descriptors() {
  rlimit limit = {};
  getrlimit(RLIMIT_NOFILE, &limit);
  const std::string seen = std::to_string(limit.rlim_cur) + ", at most " + std::to_string(limit.rlim_max);
  if (limit.rlim_max >= kEnoughDescriptors) return {Verdict::kOk, "open files (RLIMIT_NOFILE)", seen, ""};
  return {Verdict::kDegraded, "open files (RLIMIT_NOFILE)", seen,
          "about " + std::to_string(limit.rlim_max / 4) +
              " children at a time can run on workers, others run at home"};
}

Finding PagemapScan() {
  int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap < 0)
    return {Verdict::kMissing, "/proc/self/pagemap", ErrnoText(),
            "a fork cannot be captured: every child runs at home"};
  void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PageRegion region = {};
  PageScanArgument scan = {};
  scan.size = sizeof scan;
  scan.start = reinterpret_cast<uint64_t>(page);
  scan.end = scan.start + 4096;
  scan.vector = reinterpret_cast<uint64_t>(&region);
  scan.vector_length = 1;
  scan.mask = scan.returned = kPageIsPresent;
  int result = ioctl(pagemap, kPagemapScan, &scan);
  const std::string reason = ErrnoText();
  munmap(page, 4096);
  close(pagemap);
  if (result >= 0) return {Verdict::kOk, "PAGEMAP_SCAN", "yes", ""};
  return {Verdict::kDegraded, "PAGEMAP_SCAN", reason,
          "a fork's memory is found page by page in /proc/self/pagemap, slower"};
}

Finding Userfaultfd() {
  const char* what = "userfaultfd, asynchronous write protection";
  const char* then = "changes in large shared segments are found by comparing all of them";
  int descriptor = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | kUserModeOnly));
  if (descriptor < 0) return {Verdict::kDegraded, what, ErrnoText(), then};
  uffdio_api api = {};
  api.api = UFFD_API;
  api.features = kWriteProtectAsync;
  bool works = ioctl(descriptor, UFFDIO_API, &api) == 0;
  const std::string reason = ErrnoText();
  close(descriptor);
  if (works) return {Verdict::kOk, what, "yes", ""};
  return {Verdict::kDegraded, what, reason, then};
}

Finding Kcmp() {
  constexpr int kCompareFiles = 0;
  if (syscall(SYS_kcmp, getpid(), getpid(), kCompareFiles, 0, 0) >= 0)
    return {Verdict::kOk, "kcmp", "yes", ""};
  return {Verdict::kDegraded, "kcmp", ErrnoText(),
          "two descriptors of one open plain file are not known to share their offset across hosts"};
}

Finding MemoryMapControl() {
  unsigned int size = 0;
  if (prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &size, 0, 0) == 0 && size > 0)
    return {Verdict::kOk, "PR_SET_MM_MAP", "yes", ""};
  return {Verdict::kDegraded, "PR_SET_MM_MAP", ErrnoText(),
          "the C library's own notion of the heap's end is corrected instead; ps shows the worker's command "
          "line"};
}

Finding Directory() {
  std::vector<std::string> bases = SessionBases();
  if (bases.empty())
    return {Verdict::kMissing, "session directory", "none",
            "make /dev/shm, $XDG_RUNTIME_DIR, $TMPDIR or /tmp writable"};
  struct statvfs status = {};
  statvfs(bases[0].c_str(), &status);
  const unsigned long free_mib = (status.f_bavail * status.f_frsize) >> 20;
  return {Verdict::kOk, "session directory", bases[0] + ", " + std::to_string(free_mib) + " MiB free", ""};
}

}  // namespace

std::vector<Finding> ProbeHost() {
  return {Kernel(),     Cores(),       Memory(),      Processor(), Descriptors(),     Directory(),
          Namespaces(), PagemapScan(), Userfaultfd(), Kcmp(),      MemoryMapControl()};
}

}  // namespace elsewhere::runtime

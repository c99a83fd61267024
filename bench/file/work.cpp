// bench_file_work: what bench_file.py times. Does each named piece of work on TARGET, a directory or an
// s3:// URL, and prints "name seconds" for it.
//
//   bench_file_work TARGET [--cache DIR] [--mib N] [--files N] NAME...
#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "bench/file/target.h"

namespace elsewhere::bench {

void Give(const std::string& what) {
  std::fprintf(stderr, "bench_file_work: %s\n", what.c_str());
  std::exit(1);
}

namespace {

constexpr size_t kPiece = 1 << 20, kSmall = 4096, kReads = 400;

struct Work {
  Target& target;
  uint64_t large = 1ull << 30;
  unsigned files = 1000;

  std::string Data(size_t size) const {
    std::minstd_rand random(1);
    std::string data(size, '\0');
    for (auto& c : data) c = char(random() >> 8);
    return data;
  }
  std::string Small(unsigned i) const { return "small/" + std::to_string(i); }

  void Write() {
    std::string piece = Data(kPiece);
    auto file = target.Open("large", O_WRONLY | O_CREAT | O_TRUNC);
    for (uint64_t at = 0; at < large; at += kPiece) file->Write(piece, at);
    file->Close();
  }
  void Read() {
    std::string piece(kPiece, '\0'), expected = Data(kPiece);
    auto file = target.Open("large", O_RDONLY);
    for (uint64_t at = 0; at < large; at += kPiece)
      if (file->Read(piece, at) != kPiece || piece[at / kPiece % kPiece] != expected[at / kPiece % kPiece])
        Give("large holds something else than was written");
    file->Close();
  }
  void Random() {
    std::minstd_rand random(2);
    std::string piece(kSmall, '\0');
    auto file = target.Open("large", O_RDONLY);
    for (size_t i = 0; i < kReads; ++i)
      if (file->Read(piece, random() % (large / kSmall) * kSmall) != kSmall) Give("large is too short");
    file->Close();
  }
  void Append() {
    uint64_t before = target.SizeOf("large");
    auto file = target.Open("large", O_WRONLY);
    file->Append(Data(1024));
    file->Close();
    if (target.SizeOf("large") != before + 1024) Give("the append is not there");
  }
  void Create() {
    target.MakeDirectory("small");
    std::string data = Data(kSmall);
    for (unsigned i = 0; i < files; ++i) {
      auto file = target.Open(Small(i), O_WRONLY | O_CREAT | O_TRUNC);
      file->Write(data, 0);
      file->Close();
    }
  }
  void Stat() {
    for (unsigned i = 0; i < files; ++i)
      if (target.SizeOf(Small(i)) != kSmall) Give(Small(i) + " has another size");
  }
  void ReadSmall() {
    std::string data(kSmall, '\0'), expected = Data(kSmall);
    for (unsigned i = 0; i < files; ++i) {
      auto file = target.Open(Small(i), O_RDONLY);
      if (file->Read(data, 0) != kSmall || data != expected) Give(Small(i) + " holds something else");
      file->Close();
    }
  }
  void Delete() {
    for (unsigned i = 0; i < files; ++i) target.Remove(Small(i));
  }
  // A tree of as many objects of 4 KiB, a thousand in each directory.
  void Plant() { target.Plant("tree", files); }
  // With the most memory that this process held, which says something where the library is inside it.
  void Walk(bool stat) {
    uint64_t count = target.Walk("tree", stat);
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    std::fprintf(stderr, "%lu entries, %ld MiB\n", (unsigned long)(count), usage.ru_maxrss / 1024);
  }

  bool Do(const std::string& name) {
    if (name == "write") return Write(), true;
    if (name == "read" || name == "reread") return Read(), true;
    if (name == "random") return Random(), true;
    if (name == "append") return Append(), true;
    if (name == "create") return Create(), true;
    if (name == "stat") return Stat(), true;
    if (name == "readsmall") return ReadSmall(), true;
    if (name == "delete") return Delete(), true;
    if (name == "plant") return Plant(), true;
    if (name == "list") return Walk(true), true;
    if (name == "find") return Walk(false), true;
    return false;
  }
};

int Main(int argc, char** argv) {
  std::vector<std::string> names;
  std::string where, cache;
  uint64_t mib = 1024;
  unsigned files = 1000;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    auto value = [&] { return i + 1 < argc ? argv[++i] : (Give(argument + " needs a value"), ""); };
    if (argument == "--cache") {
      cache = value();
    } else if (argument == "--mib") {
      mib = strtoull(value(), nullptr, 10);
    } else if (argument == "--files") {
      files = unsigned(strtoul(value(), nullptr, 10));
    } else {
      (where.empty() ? where : names.emplace_back()) = argument;
    }
  }
  if (names.empty()) Give("TARGET [--cache DIR] [--mib N] [--files N] NAME...");
  auto target = where.starts_with("s3://") ? OnLibrary(where, cache) : OnDirectory(where);
  Work work{*target, mib << 20, files};
  for (auto& name : names) {
    // Of what takes a moment the median of several passes counts: the first one meets fresh memory.
    std::vector<double> seconds(name == "reread" ? 9 : 1);
    for (double& took : seconds) {
      auto begin = std::chrono::steady_clock::now();
      if (!work.Do(name)) Give("there is no work " + name);
      took = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    std::sort(seconds.begin(), seconds.end());
    std::printf("%s %.4f\n", name.c_str(), seconds[seconds.size() / 2]);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace elsewhere::bench

int main(int argc, char** argv) {
  return elsewhere::bench::Main(argc, argv);
}

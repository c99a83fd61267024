// What the work of bench_file is done on: a mounted directory by system calls, or shim/file itself.
// Any failure ends the program with a message: a figure of work that failed means nothing.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace elsewhere::bench {

[[noreturn]] void Give(const std::string& what);  // up

class OpenFile {
 public:
  virtual ~OpenFile() = default;
  virtual size_t Read(std::span<char> into, uint64_t offset) = 0;
  virtual void Write(std::string_view data, uint64_t offset) = 0;
  virtual void Append(std::string_view data) = 0;
  // Returns when what was written is in the store.
  virtual void Close() = 0;
};

class Target {
 public:
  virtual ~Target() = default;
  virtual std::unique_ptr<OpenFile> Open(const std::string& name, int flags) = 0;
  virtual uint64_t SizeOf(const std::string& name) = 0;
  virtual void Remove(const std::string& name) = 0;
  virtual void MakeDirectory(const std::string& name) = 0;
  // As many objects in directories of a thousand, by whatever way is fast.
  virtual void Plant(const std::string&, unsigned) { Give("only an s3:// URL can be planted"); }
  // Every entry of every directory below `name`, with its attributes if `stat`; answers how many.
  virtual uint64_t Walk(const std::string& name, bool stat) = 0;
};

std::unique_ptr<Target> OnDirectory(const std::string& path);
// `url`: s3://bucket/prefix; server and keys from the environment. `cache` is the cache's directory.
std::unique_ptr<Target> OnLibrary(const std::string& url, const std::string& cache);

}  // namespace elsewhere::bench

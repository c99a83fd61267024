#include <fcntl.h>
#include <sys/stat.h>

#include "bench/file/target.h"
#include "shim/file/file_system.h"

namespace elsewhere::bench {
namespace {

constexpr unsigned kThreads = 16;
constexpr uint64_t kAttributeBytes = 64 << 20;

template <class T>
T Value(Result<T> result) {
  if (!result) Give(result.error().message);
  return std::move(*result);
}

class LibraryFile final : public OpenFile {
 public:
  explicit LibraryFile(std::shared_ptr<file::ObjectFile> file) : file_(std::move(file)) {}
  size_t Read(std::span<char> into, uint64_t offset) override { return Value(file_->Read(into, offset)); }
  void Write(std::string_view data, uint64_t offset) override { Value(file_->Write(data, offset)); }
  void Append(std::string_view data) override { Value(file_->Append(data)); }
  void Close() override { Value(file_->Flush()); }

 private:
  const std::shared_ptr<file::ObjectFile> file_;
};

class Library final : public Target {
 public:
  Library(const std::string& url, const std::string& cache) {
    auto context = std::make_shared<file::FileContext>();
    context->store = Value(store::OpenStore(url));
    context->cache = Value(file::FileCache::Open(cache, 8ull << 30));
    context->attributes =
        Value(file::AttributeCache::Open(cache + "/" + file::kAttributeTable, kAttributeBytes));
    context->workers = std::make_shared<file::Workers>(kThreads);
    context_ = context;
    file_system_ =
        std::make_unique<file::FileSystem>(context, file::FileSystemOptions{.mount_point = "/data"});
  }
  std::unique_ptr<OpenFile> Open(const std::string& name, int flags) override {
    return std::make_unique<LibraryFile>(Value(file_system_->Open(name, flags, 0644)));
  }
  uint64_t SizeOf(const std::string& name) override { return Value(file_system_->Stat(name)).size; }
  void Remove(const std::string& name) override { Value(file_system_->Unlink(name)); }
  void MakeDirectory(const std::string& name) override {
    auto made = file_system_->MakeDirectory(name, 0755);
    if (!made && made.error().code != EEXIST) Give(made.error().message);
  }
  uint64_t Walk(const std::string& name, bool with_stat) override {
    auto entries = Value(file_system_->ReadDirectory(name));
    uint64_t count = entries.size();
    for (auto& entry : entries) {
      std::string child = name + "/" + entry.name;
      mode_t type = entry.type;
      if (with_stat || type == 0) type = Value(file_system_->Stat(child, false)).mode & S_IFMT;
      if (S_ISDIR(type)) count += Walk(child, with_stat);
    }
    return count;
  }

  void Plant(const std::string& name, unsigned count) override {
    const std::string content(4096, 'x');
    Value(context_->workers->ForEach(count, [&](size_t i) -> Status {
      auto put = context_->store->Put(name + "/" + std::to_string(i / 1000) + "/" + std::to_string(i % 1000),
                                      content);
      if (!put) return put.error();
      return Ok{};
    }));
  }

 private:
  std::shared_ptr<file::FileContext> context_;
  std::unique_ptr<file::FileSystem> file_system_;
};

}  // namespace

std::unique_ptr<Target> OnLibrary(const std::string& url, const std::string& cache) {
  return std::make_unique<Library>(url, cache);
}

}  // namespace elsewhere::bench

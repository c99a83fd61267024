// A fixture of hosts that map the same store at /data, and short forms of what tests do there.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <string>
#include <vector>

#include "shim/file/file_system.h"
#include "test_store.h"

namespace elsewhere::file {

using Strings = std::vector<std::string>;

class HostsTest : public testing::Test {
 protected:
  std::shared_ptr<FileSystem> NewHost(const std::string& name, FileSystemOptions options = {}) {
    auto context = std::make_shared<FileContext>();
    context->store = test_store_.Open();
    context->cache = *FileCache::Open(directory_.path() + "/cache-" + name, 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    options.mount_point = "/data";
    return std::make_shared<FileSystem>(context, options);
  }
  static Status WriteFile(FileSystem& host, const std::string& path, std::string_view text,
                          int flags = O_WRONLY | O_CREAT | O_TRUNC) {
    auto file = host.Open(path, flags, 0644);
    if (!file) return file.error();
    auto written = (*file)->Write(text, 0);
    if (!written) return written.error();
    return (*file)->Flush();
  }
  static std::string ReadFile(FileSystem& host, const std::string& path) {
    auto file = host.Open(path, O_RDONLY, 0);
    if (!file) return "error: " + file.error().message;
    std::string text((*file)->attributes().size, '\0');
    auto got = (*file)->Read(text, 0);
    return got ? text : "error: " + got.error().message;
  }
  static Strings Names(FileSystem& host, const std::string& path) {
    auto entries = host.ReadDirectory(path);
    if (!entries) return {"error: " + entries.error().message};
    Strings names;
    for (auto& entry : *entries) names.push_back(entry.name + (S_ISDIR(entry.type) ? "/" : ""));
    return names;
  }
  static int CodeOf(const Status& status) { return status ? 0 : status.error().code; }
  template <class T>
  static int CodeOf(const Result<T>& result) {
    return result ? 0 : result.error().code;
  }

  store::ScratchDirectory directory_;
  TestStore test_store_;
  std::shared_ptr<FileSystem> home_ = NewHost("home");
};

}  // namespace elsewhere::file

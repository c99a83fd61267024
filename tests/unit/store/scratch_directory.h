// A directory of a test's own, removed with all its content at the end.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace elsewhere::store {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "elsewhere-test.XXXXXX";
    if (!mkdtemp(name.data())) abort();
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace elsewhere::store

// Where the parts of this build or installation are, found from where this program lies.
#pragma once

#include <string>

#include "shim/wire/result.h"

namespace elsewhere::runtime {

struct Installation {
  std::string runtime;  // this program
  std::string preload;  // libelsewhere.so
};

// In a build tree: runtime/elsewhere-runtime, preload/libelsewhere.so. Installed: both in lib/elsewhere.
Result<Installation> FindInstallation();

}  // namespace elsewhere::runtime

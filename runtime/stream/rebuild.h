// Descriptors that are made anew on the other host: files and devices by name, small anonymous files with
// their bytes, timer and signal descriptors with their state. Nothing of them stays connected to the
// origin but a file's offset (plain_files.h).
#pragma once

#include <string>
#include <vector>

#include "runtime/stream/classify.h"
#include "runtime/stream/descriptor.h"
#include "shim/wire/message.h"

namespace elsewhere::runtime::stream {

// At the origin: fills in kind, path and extra of `job` for `descriptor`.
Status Describe(Kind kind, int descriptor, const std::string& link, wire::JobDescriptor& job);

// On the worker. The result has the description's flags and offset.
Result<Descriptor> Rebuild(const wire::JobDescriptor& job);

}  // namespace elsewhere::runtime::stream

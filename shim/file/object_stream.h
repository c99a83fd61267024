// The upload of an ObjectFile that goes on while the file is written: internal to object_*.cpp, under its
// lock.
#pragma once

#include <algorithm>
#include <map>
#include <string>

#include "shim/file/object_file.h"

namespace elsewhere::file {

struct ObjectFile::Stream {
  struct Part {
    uint64_t version = 0;       // counts how often it was written again
    uint64_t sent_version = 0;  // what `etag` stands for; equal to `version`: nothing is left to send
    std::string etag{};
    uint64_t length = 0;
  };

  // Parts that overlap the range have to be sent again.
  void Invalidate(uint64_t from, uint64_t to) {
    for (auto part = parts.lower_bound(unsigned(from / kStreamPart)); part != parts.end(); ++part) {
      if (uint64_t{part->first} * kStreamPart >= to) break;
      ++part->second.version;
    }
  }

  // The first part that is not, or not yet, written whole behind those that were begun.
  unsigned WrittenUpTo(const ObjectFile& file) const {
    return unsigned(file.changed_.EndOfRunAt(uint64_t{next} * kStreamPart) / kStreamPart);
  }
  bool HasPartFor(const ObjectFile& file) const {
    return file.stream_.get() == this && !failed && !file.flushing_ && next < kStreamParts &&
           WrittenUpTo(file) > next;
  }
  // Begins what may be begun.
  static void BeginParts(ObjectFile* file, const std::shared_ptr<Stream>& stream);

  std::string key;
  std::string upload_id;
  bool failed = false;     // nothing more is begun; Flush sends what is missing and reports
  bool beginning = false;  // the first part's task is asking for the upload id
  unsigned next = 0;       // the first part that was never begun
  unsigned sending = 0;
  std::map<unsigned, Part> parts;
};

}  // namespace elsewhere::file

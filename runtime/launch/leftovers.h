// What killed writers and sessions have left in a store: unfinished multipart uploads, which nobody sees and
// the owner pays for, images of sessions, and probes of `elsewhere run`.
//
// Nothing there says whether its writer still lives, so age decides: what was begun, or last added to, less
// than `least_age` ago stays. An upload that is taken from a living writer costs it that time once more; the
// images of a living session must not be taken, so they are only looked for when asked for.
// Thread-safety: functions without state.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "shim/store/object_store.h"

namespace elsewhere::runtime {

struct Leftover {
  enum class Kind { kUpload, kProbe, kImages } kind;
  std::string key;                  // of kImages: the prefix of all its objects
  std::string upload_id{};          // of kUpload
  int64_t begun_ns = 0;             // of kImages: when the last of it was written
  uint64_t objects = 0, bytes = 0;  // of an upload they are not known
};

struct LeftoverSearch {
  std::chrono::seconds least_age{24 * 3600};
  bool images = false;
  int64_t now_ns = 0;  // since 1970
};

Result<std::vector<Leftover>> FindLeftovers(store::ObjectStore& store, const LeftoverSearch& search);
// What is gone by itself meanwhile counts as removed.
Status RemoveLeftover(store::ObjectStore& store, const Leftover& leftover);

}  // namespace elsewhere::runtime

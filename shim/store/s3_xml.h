// The XML that S3 sends, read by expat, and the little that it is sent.
// Thread-safety: functions without state. Errors: EBADMSG for what is no XML of the kind expected.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "shim/store/object_store.h"

namespace elsewhere::store {

struct S3Error {
  std::string code;  // "NoSuchKey"
  std::string message;
  std::string region;  // when the request went to the wrong one
};

// False when the text is not an <Error> document.
bool ParseS3Error(std::string_view xml, S3Error* error);
// Keys are URL-decoded (the request asks for encoding-type=url).
Result<ListPage> ParseListing(std::string_view xml);

struct UploadsPage {
  std::vector<UploadEntry> uploads{};
  bool truncated = false;
  std::string next_key{}, next_upload{};
};
Result<UploadsPage> ParseUploads(std::string_view xml);

// The text of the first element of that name, wherever it is; empty when there is none.
Result<std::string> ParseElement(std::string_view xml, std::string_view element);
// Key and code of each <Error> in a DeleteResult.
Result<std::vector<std::pair<std::string, S3Error>>> ParseDeleteErrors(std::string_view xml);

std::string CompleteXml(std::span<const UploadPart> parts);
std::string DeleteXml(std::span<const std::string> keys);
// Whether the text can be written into XML 1.0 as it is: ASCII without control characters but tab and line
// ends.
bool XmlCanSay(std::string_view text);

// "2026-11-21T03:00:00.000Z" or "Sat, 21 Nov 2026 03:00:00 GMT" in nanoseconds since 1970; 0 when neither.
int64_t ParseTime(const std::string& text);

}  // namespace elsewhere::store

// Any text as an answer of an S3 server.

// links: shim/store/s3_xml.cpp shim/store/s3_sign.cpp -lexpat -lcrypto
#include <cstdint>

#include "shim/store/s3_xml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace elsewhere::store;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  S3Error error;
  ParseS3Error(text, &error);
  (void)ParseListing(text);
  (void)ParseUploads(text);
  (void)ParseElement(text, "UploadId");
  (void)ParseDeleteErrors(text);
  ParseTime(std::string(text));
  return 0;
}

// Multipart uploads of DirectoryStore. An upload is a directory in uploads/: "target", an empty object file
// whose metadata are the object's and which is preceded by the key as content, and one object file per part,
// "00001" on.
#include <fcntl.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "shim/store/directory_layout.h"
#include "shim/store/directory_new_file.h"

namespace elsewhere::store {
namespace {

std::string PartName(unsigned number) {
  std::string digits = std::to_string(number);
  return std::string(5 - std::min<size_t>(digits.size(), 5), '0') + digits;
}

bool GoodId(std::string_view id) {
  return !id.empty() && id.size() < 64 && id.find_first_not_of("0123456789.") == id.npos && id[0] != '.';
}

std::string ReadContent(int root, const std::string& path, ObjectInfo* info) {
  UniqueFd fd(openat(root, path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return "";
  auto read = ReadObjectInfo(fd.get());
  if (!read) return "";
  std::string content(read->size, '\0');
  if (!ReadFully(fd.get(), content.data(), content.size(), 0)) return "";
  *info = std::move(*read);
  return content;
}

}  // namespace

Result<std::string> DirectoryStore::BeginUpload(std::string_view key, const PutOptions& options) {
  auto path = PathOfKey(key);
  if (!path) return Fail(path.error(), "begin upload of", key);
  std::string id = NewName();
  std::string upload = "uploads/" + id;
  auto target = Create(key.size(), options);
  if (!target) return Fail(target.error(), "begin upload of", key);
  uint8_t etag[16];
  HashContent(std::span(&key, 1), etag);
  if (!WriteFully(target->fd.get(), std::span(&key, 1))) return Fail(errno, "begin upload of", key);
  auto info = FinishObjectFile(target->fd.get(), key.size(), options, etag);
  if (!info) return Fail(info.error(), "begin upload of", key);
  if (mkdirat(root_.get(), upload.c_str(), 0700) != 0 ||
      renameat(root_.get(), target->name.c_str(), root_.get(), (upload + "/target").c_str()) != 0)
    return Fail(errno == ENOENT ? EIO : errno, "begin upload of", key);
  target->Published();
  return id;
}

Result<std::string> DirectoryStore::UploadPath(std::string_view key, std::string_view upload_id) {
  std::string upload = "uploads/" + std::string(upload_id);
  ObjectInfo info;
  if (!GoodId(upload_id) || ReadContent(root_.get(), upload + "/target", &info) != key)
    return Error{ENOENT, url_ + ": no upload " + std::string(upload_id) + " of " + std::string(key)};
  return upload;
}

Result<UploadPart> DirectoryStore::PublishPart(NewFile& file, const std::string& upload, unsigned number,
                                               const ObjectInfo& info) {
  if (number < 1 || number > 10000) return Error{EINVAL, url_ + ": part numbers are 1 to 10000"};
  auto done = PublishOver(file, upload + "/" + PartName(number));
  if (!done && done.error().code == ENOENT) {
    if (renameat(root_.get(), file.name.c_str(), root_.get(), (upload + "/" + PartName(number)).c_str()) != 0)
      return Fail(errno, "put part of", upload);
    file.Published();
  } else if (!done) {
    return done.error();
  }
  return UploadPart{number, info.etag};
}

Result<UploadPart> DirectoryStore::PutPart(std::string_view key, std::string_view upload_id, unsigned number,
                                           std::string_view body) {
  auto upload = UploadPath(key, upload_id);
  if (!upload) return upload.error();
  auto file = Create(body.size(), {});
  if (!file) return Fail(file.error(), "put part of", key);
  uint8_t etag[16];
  HashContent(std::span(&body, 1), etag);
  if (!WriteFully(file->fd.get(), std::span(&body, 1))) return Fail(errno, "put part of", key);
  auto info = FinishObjectFile(file->fd.get(), body.size(), {}, etag);
  if (!info) return Fail(info.error(), "put part of", key);
  return PublishPart(*file, *upload, number, *info);
}

Result<UploadPart> DirectoryStore::CopyPart(std::string_view key, std::string_view upload_id, unsigned number,
                                            std::string_view from, Range range,
                                            std::string_view from_if_match) {
  auto upload = UploadPath(key, upload_id);
  if (!upload) return upload.error();
  auto source = OpenForRead(from, {.range = {}, .if_match = std::string(from_if_match), .if_none_match = {}});
  if (!source) return source.error();
  if (range.whole()) range.length = source->info.size;
  if (range.offset > source->info.size || range.length > source->info.size - range.offset)
    return Error{EINVAL, url_ + ": the range to copy lies outside of " + std::string(from)};
  auto file = Create(range.length, {});
  if (!file) return Fail(file.error(), "copy part of", key);
  uint8_t etag[16];
  if (!CopyFully(source->fd.get(), range.offset, range.length, file->fd.get()))
    return Fail(errno, "copy part of", key);
  auto hashed = HashFile(file->fd.get(), range.length, etag);
  if (!hashed) return Fail(hashed.error(), "copy part of", key);
  auto info = FinishObjectFile(file->fd.get(), range.length, {}, etag);
  if (!info) return Fail(info.error(), "copy part of", key);
  return PublishPart(*file, *upload, number, *info);
}

Result<ObjectInfo> DirectoryStore::CompleteUpload(std::string_view key, std::string_view upload_id,
                                                  std::span<const UploadPart> parts,
                                                  const PutOptions& options) {
  auto upload = UploadPath(key, upload_id);
  if (!upload) return upload.error();
  ObjectInfo target;
  ReadContent(root_.get(), *upload + "/target", &target);
  PutOptions put = options;
  put.metadata = std::move(target.metadata);
  put.content_type = std::move(target.content_type);

  std::vector<OpenObject> sources;
  uint64_t size = 0;
  unsigned before = 0;
  for (auto& part : parts) {
    UniqueFd fd(openat(root_.get(), (*upload + "/" + PartName(part.number)).c_str(),
                       O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    auto info = fd ? ReadObjectInfo(fd.get()) : Result<ObjectInfo>(Error{errno, strerror(errno)});
    if (!info || info->etag != part.etag || part.number <= before)
      return Error{EINVAL, url_ + ": complete " + std::string(key) + ": part " + std::to_string(part.number) +
                               " is missing, another one or out of order"};
    before = part.number;
    size += info->size;
    sources.push_back({std::move(fd), std::move(*info)});
  }
  if (sources.empty()) return Error{EINVAL, url_ + ": complete " + std::string(key) + ": no parts"};

  auto file = Create(size, put);
  if (!file) return Fail(file.error(), "complete", key);
  for (auto& source : sources)
    if (!CopyFully(source.fd.get(), 0, source.info.size, file->fd.get())) return Fail(errno, "complete", key);
  uint8_t etag[16];
  auto hashed = HashFile(file->fd.get(), size, etag);
  if (!hashed) return Fail(hashed.error(), "complete", key);
  auto info = FinishObjectFile(file->fd.get(), size, put, etag);
  if (!info) return Fail(info.error(), "complete", key);
  auto published = Publish(*file, key, put);
  if (!published) return published.error();
  RemoveUpload(*upload);
  return info;
}

// Each file is given back by whoever unlinks it, so a part that arrives meanwhile is counted once.
void DirectoryStore::RemoveUpload(const std::string& upload) {
  std::error_code error;
  for (auto& entry : std::filesystem::directory_iterator(path_ + "/" + upload, error)) {
    struct stat status;
    bool counted = lstat(entry.path().c_str(), &status) == 0;
    if (unlink(entry.path().c_str()) == 0 && counted) GiveBack(uint64_t(status.st_size));
  }
  unlinkat(root_.get(), upload.c_str(), AT_REMOVEDIR);
}

Status DirectoryStore::AbortUpload(std::string_view key, std::string_view upload_id) {
  auto upload = UploadPath(key, upload_id);
  if (!upload) return upload.error();
  RemoveUpload(*upload);
  return Ok{};
}

Result<std::vector<UploadEntry>> DirectoryStore::ListUploads(std::string_view prefix) {
  std::vector<UploadEntry> uploads;
  std::error_code error;
  for (auto& entry : std::filesystem::directory_iterator(path_ + "/uploads", error)) {
    ObjectInfo info;
    std::string id = entry.path().filename();
    std::string key = ReadContent(root_.get(), "uploads/" + id + "/target", &info);
    if (!key.empty() && key.starts_with(prefix))
      uploads.push_back({std::move(key), std::move(id), info.modified_ns});
  }
  std::sort(uploads.begin(), uploads.end(), [](auto& a, auto& b) { return a.key < b.key; });
  return uploads;
}

}  // namespace elsewhere::store

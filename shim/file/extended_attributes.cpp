#include "shim/file/extended_attributes.h"

#include <linux/limits.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cstring>

#include "shim/store/s3_sign.h"

namespace elsewhere::file {
namespace {

constexpr char kEntry[] = "xattr";
constexpr std::string_view kNameSpace = "user.";
constexpr size_t kMetadataRoom = 2048;
constexpr size_t kKeptFree = 64;  // for what the store adds itself

std::string ToBase64(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                             reinterpret_cast<const unsigned char*>(bytes.data()), int(bytes.size()));
  text.resize(size_t(size));
  return text;
}

bool FromBase64(const std::string& text, std::string* bytes) {
  if (text.size() % 4 != 0) return false;
  bytes->assign(text.size() / 4 * 3 + 1, '\0');
  int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes->data()),
                             reinterpret_cast<const unsigned char*>(text.data()), int(text.size()));
  if (size < 0) return false;
  size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes->resize(size_t(size) - padding);
  return true;
}

int Digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string PercentDecoded(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    int high = text[i] == '%' && i + 2 < text.size() ? Digit(text[i + 1]) : -1;
    int low = high >= 0 ? Digit(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
    } else {
      out += char(high << 4 | low);
      i += 2;
    }
  }
  return out;
}

// A quoted string from `at` on, which is left behind it. Names may hold any byte but '"' and '\', which are
// percent-encoded once more: s3fs shows them so, and what it writes itself contains none.
bool TakeQuoted(const std::string& text, size_t* at, std::string* out) {
  *at = text.find_first_not_of(" ,:{", *at);
  if (*at == text.npos || text[*at] != '"') return false;
  size_t end = text.find('"', *at + 1);
  if (end == text.npos) return false;
  *out = text.substr(*at + 1, end - *at - 1);
  *at = end + 1;
  return true;
}

std::string NameInEntry(const std::string& name) {
  std::string out;
  for (char c : name) {
    if (c == '"' || c == '\\' || c == '%') {
      out += c == '"' ? "%22" : c == '\\' ? "%5C" : "%25";
    } else {
      out += c;
    }
  }
  return out;
}

Error Fail(int code, const std::string& name) {
  return Error{code, "extended attribute " + name + ": " + strerror(code)};
}

void Store(Attributes* attributes, const ExtendedAttributes& all) {
  if (all.empty()) {
    attributes->other.erase(kEntry);
    return;
  }
  std::string text;
  for (auto& [name, value] : all)
    text.append(text.empty() ? "{" : ",").append("\"" + NameInEntry(name) + "\":\"" + ToBase64(value) + "\"");
  attributes->other[kEntry] = store::PercentEncode(text + "}", false);
}

bool CarriesThem(const Attributes& attributes) {
  return S_ISREG(attributes.mode) || S_ISDIR(attributes.mode);
}

}  // namespace

ExtendedAttributes ExtendedAttributesOf(const Attributes& attributes) {
  ExtendedAttributes all;
  auto entry = attributes.other.find(kEntry);
  if (entry == attributes.other.end()) return all;
  std::string text = PercentDecoded(entry->second), name, value, bytes;
  size_t at = 0;
  while (TakeQuoted(text, &at, &name) && TakeQuoted(text, &at, &value))
    if (FromBase64(value, &bytes)) all[PercentDecoded(name)] = bytes;
  return all;
}

Status CheckAttributeName(const std::string& name) {
  if (name.empty() || name.size() > XATTR_NAME_MAX) return Fail(ERANGE, name);
  if (!name.starts_with(kNameSpace)) return Fail(ENOTSUP, name);
  if (name.size() == kNameSpace.size()) return Fail(EINVAL, name);
  return Ok{};
}

Status SetExtendedAttribute(Attributes* attributes, const std::string& name, const std::string& value,
                            int flags) {
  if (flags & ~(XATTR_CREATE | XATTR_REPLACE)) return Fail(EINVAL, name);
  auto good = CheckAttributeName(name);
  if (!good) return good;
  if (value.size() > XATTR_SIZE_MAX) return Fail(E2BIG, name);
  if (!CarriesThem(*attributes)) return Fail(EPERM, name);
  auto all = ExtendedAttributesOf(*attributes);
  bool there = all.contains(name);
  if (there && (flags & XATTR_CREATE)) return Fail(EEXIST, name);
  if (!there && (flags & XATTR_REPLACE)) return Fail(ENODATA, name);
  all[name] = value;
  Attributes changed = *attributes;
  Store(&changed, all);
  size_t size = kKeptFree;
  for (auto& [key, text] : MetadataOf(changed)) size += key.size() + text.size();
  if (size > kMetadataRoom) return Fail(ENOSPC, name);
  *attributes = std::move(changed);
  return Ok{};
}

Status RemoveExtendedAttribute(Attributes* attributes, const std::string& name) {
  auto good = CheckAttributeName(name);
  if (!good) return good;
  if (!CarriesThem(*attributes)) return Fail(EPERM, name);
  auto all = ExtendedAttributesOf(*attributes);
  if (all.erase(name) == 0) return Fail(ENODATA, name);
  Store(attributes, all);
  return Ok{};
}

Result<std::string> GetExtendedAttribute(const Attributes& attributes, const std::string& name) {
  auto good = CheckAttributeName(name);
  if (!good) return good.error();
  auto all = ExtendedAttributesOf(attributes);
  auto found = all.find(name);
  if (found == all.end()) return Fail(ENODATA, name);
  return std::move(found->second);
}

std::string ExtendedAttributeNames(const Attributes& attributes) {
  std::string names;
  for (auto& [name, value] : ExtendedAttributesOf(attributes)) names.append(name).push_back('\0');
  return names;
}

}  // namespace elsewhere::file

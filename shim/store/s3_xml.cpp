#include "shim/store/s3_xml.h"

#include <expat.h>
#include <time.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "shim/store/s3_sign.h"

namespace elsewhere::store {
namespace {

struct ParserFree {
  void operator()(XML_Parser parser) const { XML_ParserFree(parser); }
};

// Calls back at the end of every element with the names from the root and the element's own text.
class Reader {
 public:
  using End = std::function<void(const std::vector<std::string>& path, const std::string& text)>;
  explicit Reader(End end) : end_(std::move(end)) {}

  bool Read(std::string_view xml) {
    std::unique_ptr<XML_ParserStruct, ParserFree> parser(XML_ParserCreate("UTF-8"));
    if (!parser) std::abort();
    XML_SetUserData(parser.get(), this);
    XML_SetElementHandler(parser.get(), Started, Ended);
    XML_SetCharacterDataHandler(parser.get(), Characters);
    // Answers of S3 have no document type; one that has tries to make us expand entities.
    XML_SetStartDoctypeDeclHandler(parser.get(), Doctype);
    parser_ = parser.get();
    bool good = XML_Parse(parser.get(), xml.data(), int(xml.size()), 1) == XML_STATUS_OK;
    return good && !refused_;
  }

 private:
  static void Started(void* self, const char* name, const char**) {
    auto* reader = static_cast<Reader*>(self);
    const char* colon = strrchr(name, ':');
    reader->path_.emplace_back(colon ? colon + 1 : name);
    reader->text_.clear();
  }
  static void Ended(void* self, const char*) {
    auto* reader = static_cast<Reader*>(self);
    reader->end_(reader->path_, reader->text_);
    reader->path_.pop_back();
    reader->text_.clear();
  }
  static void Characters(void* self, const char* text, int size) {
    static_cast<Reader*>(self)->text_.append(text, size_t(size));
  }
  static void Doctype(void* self, const char*, const char*, const char*, int) {
    static_cast<Reader*>(self)->refused_ = true;
    XML_StopParser(static_cast<Reader*>(self)->parser_, XML_FALSE);
  }

  End end_;
  std::vector<std::string> path_;
  std::string text_;
  XML_Parser parser_ = nullptr;
  bool refused_ = false;
};

std::string Unquoted(std::string text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') return text.substr(1, text.size() - 2);
  return text;
}

bool In(const std::vector<std::string>& path, std::string_view parent) {
  return path.size() >= 2 && path[path.size() - 2] == parent;
}

std::string Escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\r')
      out += "&#13;";
    else
      out += c;
  }
  return out;
}

Error Unexpected(std::string_view what) {
  return Error{EBADMSG, "the server's answer is no " + std::string(what)};
}

}  // namespace

bool ParseS3Error(std::string_view xml, S3Error* error) {
  bool found = false;
  Reader reader([&](auto& path, auto& text) {
    if (path.size() == 1) found = path[0] == "Error";
    if (path.size() != 2 || path[0] != "Error") return;
    if (path[1] == "Code") error->code = text;
    if (path[1] == "Message") error->message = text;
    if (path[1] == "Region") error->region = text;
  });
  return reader.Read(xml) && found;
}

Result<ListPage> ParseListing(std::string_view xml) {
  ListPage page;
  ListEntry entry;
  bool found = false;
  Reader reader([&](auto& path, auto& text) {
    const std::string& name = path.back();
    if (path.size() == 1) found = name == "ListBucketResult";
    if (In(path, "Contents")) {
      if (name == "Key") entry.key = PercentDecode(text);
      if (name == "Size") entry.size = strtoull(text.c_str(), nullptr, 10);
      if (name == "ETag") entry.etag = Unquoted(text);
      if (name == "LastModified") entry.modified_ns = ParseTime(text);
    } else if (name == "Contents") {
      page.objects.push_back(std::move(entry));
      entry = {};
    } else if (In(path, "CommonPrefixes") && name == "Prefix") {
      page.folders.push_back(PercentDecode(text));
    } else if (path.size() == 2 && name == "NextContinuationToken") {
      page.next_token = text;
    }
  });
  if (!reader.Read(xml) || !found) return Unexpected("listing");
  return page;
}

Result<UploadsPage> ParseUploads(std::string_view xml) {
  UploadsPage page;
  UploadEntry entry;
  bool found = false;
  Reader reader([&](auto& path, auto& text) {
    const std::string& name = path.back();
    if (path.size() == 1) found = name == "ListMultipartUploadsResult";
    if (In(path, "Upload")) {
      if (name == "Key") entry.key = PercentDecode(text);
      if (name == "UploadId") entry.upload_id = text;
      if (name == "Initiated") entry.started_ns = ParseTime(text);
    } else if (name == "Upload") {
      page.uploads.push_back(std::move(entry));
      entry = {};
    } else if (path.size() == 2) {
      if (name == "IsTruncated") page.truncated = text == "true";
      if (name == "NextKeyMarker") page.next_key = PercentDecode(text);
      if (name == "NextUploadIdMarker") page.next_upload = text;
    }
  });
  if (!reader.Read(xml) || !found) return Unexpected("list of uploads");
  return page;
}

Result<std::string> ParseElement(std::string_view xml, std::string_view element) {
  std::string value;
  bool found = false;
  Reader reader([&](auto& path, auto& text) {
    if (!found && path.back() == element) value = text, found = true;
  });
  if (!reader.Read(xml)) return Unexpected("XML");
  return Unquoted(std::move(value));
}

Result<std::vector<std::pair<std::string, S3Error>>> ParseDeleteErrors(std::string_view xml) {
  std::vector<std::pair<std::string, S3Error>> errors;
  std::pair<std::string, S3Error> current;
  bool found = false;
  Reader reader([&](auto& path, auto& text) {
    const std::string& name = path.back();
    if (path.size() == 1) found = name == "DeleteResult" || name == "DeleteObjectsOutput";
    if (In(path, "Error")) {
      if (name == "Key") current.first = text;
      if (name == "Code") current.second.code = text;
      if (name == "Message") current.second.message = text;
    } else if (name == "Error") {
      errors.push_back(std::move(current));
      current = {};
    }
  });
  if (!reader.Read(xml) || !found) return Unexpected("result of a deletion");
  return errors;
}

std::string CompleteXml(std::span<const UploadPart> parts) {
  std::string xml = "<CompleteMultipartUpload>";
  for (auto& part : parts)
    xml += "<Part><PartNumber>" + std::to_string(part.number) + "</PartNumber><ETag>&quot;" +
           Escape(part.etag) + "&quot;</ETag></Part>";
  return xml + "</CompleteMultipartUpload>";
}

std::string DeleteXml(std::span<const std::string> keys) {
  std::string xml = "<Delete><Quiet>true</Quiet>";
  for (auto& key : keys) xml += "<Object><Key>" + Escape(key) + "</Key></Object>";
  return xml + "</Delete>";
}

bool XmlCanSay(std::string_view text) {
  for (unsigned char c : text)
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c >= 0x80) return false;
  return true;
}

int64_t ParseTime(const std::string& text) {
  tm parts{};
  int64_t fraction = 0;
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest && *rest == '.') {
    int64_t unit = 100'000'000;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) fraction += (*rest - '0') * unit;
  } else if (!rest) {
    rest = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S", &parts);
  }
  if (!rest) return 0;
  return int64_t{timegm(&parts)} * 1'000'000'000 + fraction;
}

}  // namespace elsewhere::store

// Extended attributes in an object's user metadata, in the form of s3fs: one entry "xattr" that holds
// {"name":"base64 of the value",...}, percent-encoded. Only the "user." name space has a place there.
//
// Errors are those of the system calls (xattr(7)), and ENOSPC when an object has no room for more: S3 carries
// 2 KiB of user metadata. Thread-safety: functions without state. Source: s3fs-fuse 1.90, s3fs.cpp.
#pragma once

#include <map>
#include <string>

#include "shim/file/attributes.h"
#include "shim/wire/result.h"

namespace elsewhere::file {

// "Name" with its name space -> value, any bytes.
using ExtendedAttributes = std::map<std::string, std::string>;

// What cannot be read as that form is taken for nothing.
ExtendedAttributes ExtendedAttributesOf(const Attributes& attributes);

// ERANGE: the name's length; ENOTSUP: a name space that is not kept; EINVAL: "user." alone.
Status CheckAttributeName(const std::string& name);

// flags: XATTR_CREATE, XATTR_REPLACE. EEXIST, ENODATA, E2BIG, ENOSPC, EPERM for what is no file or directory.
Status SetExtendedAttribute(Attributes* attributes, const std::string& name, const std::string& value,
                            int flags);
// ENODATA: there is none.
Status RemoveExtendedAttribute(Attributes* attributes, const std::string& name);
Result<std::string> GetExtendedAttribute(const Attributes& attributes, const std::string& name);
// As listxattr(2) gives them: each followed by a zero byte.
std::string ExtendedAttributeNames(const Attributes& attributes);

}  // namespace elsewhere::file

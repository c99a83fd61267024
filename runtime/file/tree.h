// The tree of a map: local directories, with empty files, links and FIFOs in them, that look like the mapped
// ones.
//
// A process that opens, lists or enters a mapped directory gets the one in the tree, so that readdir, fchdir,
// relative paths and /proc work on a kernel object. What a file in the tree contains and its attributes mean
// nothing: whoever opens or examines it asks by its name. A directory shows the right names when it was
// listed by List; afterwards this host's own changes are followed. Errors of single names are left out: they
// show when the name is used. Thread-safety: functions that leave everything to the kernel; two that change
// the same name at once may leave either's result.
#pragma once

#include <string>
#include <vector>

#include "shim/file/file_system.h"
#include "shim/wire/result.h"

namespace elsewhere::runtime::tree {

// Makes `path` below `root` and all above it directories.
Status MakeDirectory(const std::string& root, const std::string& path);
// The directory gets exactly these entries.
Status List(const std::string& root, const std::string& path,
            const std::vector<file::DirectoryEntry>& entries);

// A name came, of this type (S_IFREG, S_IFDIR, S_IFLNK, ...), or went, with all below it; where its directory
// is in the tree.
void NameCame(const std::string& root, const std::string& path, mode_t type);
void NameWent(const std::string& root, const std::string& path);
void NameMoved(const std::string& root, const std::string& from, const std::string& to, mode_t type);
// What stands for the name shows it to those who watch it.
void ContentChanged(const std::string& root, const std::string& path);
void AttributesChanged(const std::string& root, const std::string& path);

}  // namespace elsewhere::runtime::tree

// Writes the image of the calling process into a memfd. Run by a deputy: a freshly forked child with one
// thread, all signals blocked. What continues elsewhere is whatever `registers` describes.
//
// Freestanding: raw system calls only, no heap, no thread-local storage, less than 4 KiB of stack. On failure
// the process is as it was before (the deputy can go on as the child); on success too, apart from one more
// descriptor, the manifest.
#pragma once

#include "preload/capture/page_records.h"
#include "shim/wire/image.h"

namespace elsewhere::capture {

struct Request {
  const image::Registers* registers;
  int arena;                   // descriptor of the chunk arena
  const int* own_descriptors;  // that belong to the deputy and do not travel (the arena's need not be listed)
  uint32_t own_descriptor_count;
  const void* agent_table;  // start of the agent's table where mapped, or nullptr
  uint64_t rseq;            // address registered for this thread, 0: none
  uint32_t rseq_size;
  uint32_t rseq_signature;
  void* note;  // where the restorer leaves the request's note, or nullptr
  uint64_t note_size;
  image::MappedFile*
      mapped_files;  // where the restorer lists the files that memory is mapped from, or nullptr
  uint64_t mapped_file_limit;
  PageRecords* records;  // of the process's pages, or nullptr
  uint32_t fork;         // which fork of the process this is, as they count
  const void* curbrk;    // libc's __curbrk, or nullptr
};

struct Result {
  const char* problem;   // nullptr: captured. Otherwise one line, constant
  int error;             // errno value that goes with it, or 0
  int manifest;          // memfd, close-on-exec, owned by the caller
  uint32_t descriptors;  // entries of the manifest's descriptor section; entry i is to be attached as i-th
  uint64_t size;         // of the manifest
  image::Totals totals;
};

void Capture(const Request& request, Result* result);

}  // namespace elsewhere::capture

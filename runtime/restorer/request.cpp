// The zygote's side of shim/wire/restore_request.h. Every descriptor that arrives is either in the job or
// closed.

#include <sys/socket.h>
#include <sys/uio.h>

#include "runtime/restorer/zygote.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::restorer {
namespace {

constexpr uint64_t kControlSize = CMSG_SPACE(sizeof(int) * 253);
alignas(8) uint8_t control[kControlSize];

void KeepDescriptors(Job* job, msghdr* message) {
  if (message->msg_controllen < sizeof(cmsghdr)) return;
  const auto* header = reinterpret_cast<const cmsghdr*>(control);
  if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return;
  const auto* numbers = reinterpret_cast<const int*>(CMSG_DATA(header));
  const uint64_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (uint64_t i = 0; i < count; ++i) {
    if (job->received < restore::kMaxDescriptors) {
      job->descriptors[job->received++] = numbers[i];
    } else {
      raw::Close(numbers[i]);
    }
  }
}

// The bytes of one packet, 0 at the end of the connection, a negative errno value.
long ReceivePacket(Job* job, void* buffer, uint64_t size) {
  iovec vector{buffer, size};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  long got;
  do {
    got = raw::Syscall(SYS_recvmsg, kSocket, raw::Address(&message), MSG_CMSG_CLOEXEC);
  } while (got == -4);
  if (!raw::Failed(got)) KeepDescriptors(job, &message);
  return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ? -1 : got;
}

bool IsValid(const restore::RestoreRequest& request) {
  return request.magic == restore::kRequestMagic && request.descriptor_count >= 1 &&
         request.descriptor_count <= restore::kMaxDescriptors &&
         request.install_count <= restore::kMaxInstalls && request.note_size <= restore::kMaxNote &&
         request.manifest_size <= image::kMaxManifest;
}

}  // namespace

Received Receive(Job* job) {
  job->received = 0;
  job->request.id = 0;
  const long got = ReceivePacket(job, &job->request, sizeof(job->request));
  if (got == 0 || got == -104 /* ECONNRESET */) return Received::kClosed;
  if (got != sizeof(job->request) || !IsValid(job->request)) return Received::kMalformed;
  while (job->received < job->request.descriptor_count) {
    restore::MoreDescriptors more{};
    const long next = ReceivePacket(job, &more, sizeof(more));
    if (next == 0) return Received::kClosed;
    if (next != sizeof(more) || more.magic != restore::kMoreMagic) return Received::kMalformed;
  }
  return job->received == job->request.descriptor_count ? Received::kJob : Received::kMalformed;
}

void Report(int socket, uint64_t id, restore::Event event, int value, uint64_t address, const char* text) {
  restore::RestoreReport report{};
  report.id = id;
  report.event = static_cast<uint32_t>(event);
  report.value = value;
  report.address = address;
  for (uint64_t i = 0; i + 1 < sizeof(report.text) && text[i] != '\0'; ++i) report.text[i] = text[i];
  long result;
  do {
    result = raw::Syscall(SYS_sendto, socket, raw::Address(&report), sizeof(report), MSG_NOSIGNAL);
  } while (result == -4);
}

}  // namespace elsewhere::restorer

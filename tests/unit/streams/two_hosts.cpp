#include "tests/unit/streams/two_hosts.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "runtime/stream/descriptor.h"

namespace elsewhere::runtime {
namespace {

void AddText(std::vector<uint8_t>& strings, const std::string& text) {
  strings.insert(strings.end(), text.begin(), text.end());
  strings.push_back(0);
}

std::string LinkOf(int descriptor) {
  char link[4096] = {};
  const std::string path = "/proc/self/fd/" + std::to_string(descriptor);
  return readlink(path.c_str(), link, sizeof link - 1) < 0 ? "" : link;
}

// A manifest that has descriptors and nothing else.
std::vector<uint8_t> Manifest(const std::vector<int>& descriptors) {
  std::vector<image::Descriptor> entries;
  std::vector<uint8_t> strings(1);
  for (size_t i = 0; i < descriptors.size(); ++i) {
    struct stat status {};
    EXPECT_EQ(fstat(descriptors[i], &status), 0);
    image::Descriptor entry{};
    entry.number = descriptors[i];
    entry.mode = status.st_mode;
    entry.device = status.st_dev;
    entry.inode = status.st_ino;
    entry.rdev = status.st_rdev;
    entry.size = static_cast<uint64_t>(status.st_size);
    entry.offset = lseek(descriptors[i], 0, SEEK_CUR);
    entry.flags = static_cast<uint32_t>(fcntl(descriptors[i], F_GETFL));
    entry.descriptor_flags = static_cast<uint32_t>(fcntl(descriptors[i], F_GETFD));
    entry.path = static_cast<uint32_t>(strings.size());
    AddText(strings, LinkOf(descriptors[i]));
    entry.attached = static_cast<uint32_t>(i);
    entry.source = image::kNone;
    entries.push_back(entry);
  }
  image::Header header{};
  header.magic = image::kMagic;
  header.version = image::kVersion;
  header.header_size = sizeof header;
  const uint32_t sizes[image::kSectionCount] = {sizeof(image::Region),
                                                sizeof(image::Run),
                                                sizeof(image::Chunk),
                                                sizeof(image::File),
                                                sizeof(image::Object),
                                                sizeof(image::Descriptor),
                                                1,
                                                sizeof(uint32_t),
                                                1,
                                                sizeof(image::Pack)};
  for (uint32_t i = 0; i < image::kSectionCount; ++i) header.sections[i] = {sizeof header, 0, sizes[i]};
  auto& table = header.sections[static_cast<uint32_t>(image::Section::kDescriptors)];
  table.count = static_cast<uint32_t>(entries.size());
  auto& texts = header.sections[static_cast<uint32_t>(image::Section::kStrings)];
  texts.offset = sizeof header + entries.size() * sizeof(image::Descriptor);
  texts.count = static_cast<uint32_t>(strings.size());
  std::vector<uint8_t> manifest(texts.offset + strings.size());
  header.size = manifest.size();
  std::memcpy(manifest.data(), &header, sizeof header);
  if (!entries.empty()) {
    std::memcpy(manifest.data() + sizeof header, entries.data(), entries.size() * sizeof entries[0]);
  }
  std::memcpy(manifest.data() + texts.offset, strings.data(), strings.size());
  return manifest;
}

}  // namespace

void TestAgent::SendEncoded(HostId to, std::vector<uint8_t> message) {
  if (before_send) before_send();
  SendEncodedAhead(to, std::move(message));
}

void TestAgent::SendEncodedAhead(HostId to, std::vector<uint8_t> message) {
  ASSERT_EQ(to, other_->host_);
  const auto opened = wire::OpenEnvelope(message);
  ASSERT_TRUE(opened.ok());
  if (holds() || opened->envelope.type == hold_from_) {
    held_.push_back(std::move(message));
  } else {
    Deliver(std::move(message));
  }
}

void TestAgent::Release() {
  hold_from_.reset();
  for (auto& message : std::exchange(held_, {})) Deliver(std::move(message));
}

void TestAgent::Deliver(std::vector<uint8_t> message) {
  TestAgent* const other = other_;
  const HostId from = host_;
  loop_.Defer([other, from, message = std::move(message)] {
    const auto opened = wire::OpenEnvelope(message);
    ASSERT_TRUE(opened.ok());
    const auto handler = other->handlers_.find(opened->envelope.type);
    ASSERT_NE(handler, other->handlers_.end()) << static_cast<int>(opened->envelope.type);
    handler->second(from, opened->body);
  });
}

TwoHosts::TwoHosts() {
  loop_ = std::move(*EventLoop::Create());
  home_ = std::make_unique<TestAgent>(*loop_, 0);
  worker_ = std::make_unique<TestAgent>(*loop_, 1);
  home_->Connect(*worker_);
  worker_->Connect(*home_);
  home_streams_ = MakeStreams(*home_);
  worker_streams_ = MakeStreams(*worker_);
  worker_->before_send = [this] { worker_streams_->BeforeSend(wire::kHome); };
}

Result<wire::Job> TwoHosts::Capture(std::vector<int> descriptors, const Process& process) {
  std::sort(descriptors.begin(), descriptors.end());
  std::vector<HeldDescriptor> held;
  for (const int descriptor : descriptors) {
    held.emplace_back();
    held.back().number = descriptor;
    held.back().descriptor = fcntl(descriptor, F_DUPFD_CLOEXEC, 3);
  }
  wire::Job job;
  job.incarnation = process.incarnation;
  const auto captured = home_streams_->Captured(process, Manifest(descriptors), held, job);
  for (const HeldDescriptor& each : held) {
    if (each.descriptor >= 0) close(each.descriptor);
  }
  if (!captured) return captured.error();
  return job;
}

Result<std::unique_ptr<RemoteProcess>> TwoHosts::Fork(const std::vector<int>& descriptors) {
  auto remote = std::make_unique<RemoteProcess>();
  remote->process.incarnation = next_incarnation_++;
  remote->process.kernel_pid = static_cast<int32_t>(1000000 + remote->process.incarnation);
  remote->process.runs_on = 1;
  const auto job = Capture(descriptors, remote->process);
  if (!job) return job.error();
  return Restore(*job, std::move(remote));
}

Result<std::unique_ptr<RemoteProcess>> TwoHosts::Restore(const wire::Job& job,
                                                         std::unique_ptr<RemoteProcess> remote) {
  std::vector<HeldDescriptor> made;
  std::optional<Status> prepared;
  worker_streams_->Prepare(job, made, [&](Status status) { prepared = status; });
  if (!prepared) return Error{EIO, "Prepare did not end"};
  if (!*prepared) return prepared->error();
  for (const HeldDescriptor& each : made) remote->Add(each.number, each.descriptor);
  worker_streams_->ProcessStarted(remote->process, nullptr);
  return remote;
}

std::unique_ptr<RemoteProcess> TwoHosts::MustFork(const std::vector<int>& descriptors) {
  auto forked = Fork(descriptors);
  EXPECT_TRUE(forked.ok()) << (forked.ok() ? "" : forked.error().message);
  return forked.ok() ? std::move(*forked) : std::make_unique<RemoteProcess>();
}

bool TwoHosts::End(RemoteProcess& remote, bool killed, int milliseconds) {
  remote.CloseAll();
  const auto reported = std::make_shared<bool>(false);  // perhaps after this function
  const Process process = remote.process;
  const Component::DrainReason reason{true, killed};
  worker_streams_->Drain(process, reason, [this, process, reason, reported] {
    worker_streams_->ProcessGone(process);
    // The report itself travels behind what the component sent.
    loop_->Defer([this, process, reason, reported] {
      home_streams_->Drain(process, reason, [reported] { *reported = true; });
    });
  });
  const bool ended = Until([&] { return *reported; }, milliseconds);
  if (ended) home_streams_->ProcessGone(process);
  return ended;
}

void TwoHosts::Turn() {
  const auto timer = loop_->After(std::chrono::milliseconds(1), [this] { loop_->Stop(); });
  loop_->Run();
  loop_->Cancel(timer);
}

void TwoHosts::Settle() {
  for (int quiet = 0; quiet < 3;) {
    const size_t before = home_->messages() + worker_->messages();
    Turn();
    quiet = home_->messages() + worker_->messages() == before ? quiet + 1 : 0;
  }
}

size_t TwoHosts::Fill(int descriptor) {
  SetNonBlocking(descriptor);
  const std::string block(4096, 'b');
  size_t accepted = 0;
  for (int idle = 0; idle < 20;) {
    const ssize_t put = write(descriptor, block.data(), block.size());
    if (put > 0) accepted += static_cast<size_t>(put);
    idle = put > 0 ? 0 : idle + 1;
    Turn();
  }
  return accepted;
}

CallId TwoHosts::CallOn(abi::Operation operation, int descriptor, std::initializer_list<int64_t> more,
                        std::vector<uint8_t> payload) {
  struct stat status {};
  EXPECT_EQ(fstat(descriptor, &status), 0);
  Call call;
  call.operation = operation;
  call.kernel_pid = 1000001;
  call.incarnation = 1;
  call.arguments[0] = static_cast<int64_t>(status.st_dev);
  call.arguments[1] = static_cast<int64_t>(status.st_ino);
  std::copy(more.begin(), more.end(), call.arguments.begin() + 2);
  call.payload = std::move(payload);
  return worker_->Make(call);
}

CallId TwoHosts::Pull(int descriptor, size_t bytes, bool wait) {
  return CallOn(abi::Operation::kPull, descriptor, {static_cast<int64_t>(bytes), wait ? 0 : 1});
}

const TestAgent::Answer* TwoHosts::Await(CallId call) {
  Until([&] { return worker_->AnswerOf(call) != nullptr; });
  return worker_->AnswerOf(call);
}

std::optional<std::string> TwoHosts::Read(int descriptor, size_t bytes) {
  const auto* answer = Await(Pull(descriptor, bytes));
  if (answer == nullptr || answer->result < 0) return std::nullopt;
  return answer->result == 0 ? "" : Take(descriptor, bytes);
}

ssize_t Put(int descriptor, const std::string& text) {
  return write(descriptor, text.data(), text.size());
}

bool AtEnd(int descriptor) {
  char byte;
  return (stream::PollNow(descriptor, POLLIN) & (POLLIN | POLLHUP)) != 0 && read(descriptor, &byte, 1) == 0;
}

std::string Take(int descriptor, size_t bytes) {
  std::string buffer(bytes, 0);
  if ((stream::PollNow(descriptor, POLLIN) & (POLLIN | POLLHUP)) == 0) return "";
  const ssize_t got = read(descriptor, buffer.data(), bytes);
  buffer.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return buffer;
}

void SetNonBlocking(int descriptor) {
  fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
}

}  // namespace elsewhere::runtime

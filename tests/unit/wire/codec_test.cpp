#include "shim/wire/codec.h"

#include <gtest/gtest.h>

#include "shim/wire/message.h"

namespace elsewhere::wire {
namespace {

Job SampleJob() {
  Job job;
  job.incarnation = MakeIncarnation(0, 7);
  job.session_pid = 4711;
  job.manifest = {1, 2, 3};
  job.memory = {9};
  job.descriptors.push_back({3, 1, 2, 0, 9, -1, "/etc/passwd", {7}});
  return job;
}

TEST(Message, ComesBackAsItWas) {
  const auto blob = Encode(3, 99, SampleJob());
  const auto opened = OpenEnvelope(blob);
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->envelope.type, MessageType::kJob);
  EXPECT_EQ(opened->envelope.sender, 3U);
  EXPECT_EQ(opened->envelope.sequence, 99U);
  const auto job = DecodeBody<Job>(opened->body);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(Encode(3, 99, *job), blob);
  EXPECT_EQ(job->descriptors.at(0).path, "/etc/passwd");
}

TEST(Message, EveryTruncationIsRefused) {
  const auto blob = Encode(3, 99, SampleJob());
  for (size_t size = 0; size < blob.size(); ++size) {
    const auto opened = OpenEnvelope(std::span(blob).first(size));
    if (!opened) continue;
    EXPECT_FALSE(DecodeBody<Job>(opened->body).ok()) << size;
  }
}

TEST(Message, ExtraBytesAndOtherVersionsAreRefused) {
  auto blob = Encode(3, 99, Started{});
  blob.push_back(0);
  EXPECT_FALSE(DecodeBody<Started>(OpenEnvelope(blob)->body).ok());
  blob[0] = static_cast<uint8_t>(blob[0] + 1);
  EXPECT_EQ(OpenEnvelope(blob).error().code, EPROTO);
}

TEST(Reader, ALengthBeyondTheEndAllocatesNothingAndFails) {
  const std::array<uint8_t, 4> bytes{0xff, 0xff, 0xff, 0xff};
  Reader strings(bytes);
  std::string text;
  strings.Read(text);
  EXPECT_FALSE(strings.ok());
  EXPECT_TRUE(text.empty());
  Reader lists(bytes);
  std::vector<uint64_t> list;
  lists.Read(list);
  EXPECT_FALSE(lists.ok());
  EXPECT_TRUE(list.empty());
}

TEST(Reader, StaysFailed) {
  const std::array<uint8_t, 6> bytes{1, 2, 3, 4, 5, 6};
  Reader reader(bytes);
  uint64_t wide = 9;
  reader.Read(wide);
  EXPECT_EQ(wide, 0U);
  uint8_t narrow = 9;
  reader.Read(narrow);
  EXPECT_EQ(narrow, 0U);
  EXPECT_FALSE(reader.ok());
}

TEST(Incarnation, RemembersWhoMadeItUp) {
  EXPECT_EQ(HostOf(MakeIncarnation(12, 345)), 12U);
}

}  // namespace
}  // namespace elsewhere::wire

#include "runtime/launch/report_reader.h"

#include <gtest/gtest.h>

namespace elsewhere::runtime {
namespace {

TEST(ReportReader, NamesOfNestedValuesAreJoined) {
  Result<ReportValues> read = ReadReport(
      R"( {"forks_remote": 4, "fallbacks": {"store \"x\" full": 2}, "notes": ["a", "b"], "none": {}} )");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(4, read->numbers["forks_remote"]);
  EXPECT_EQ(2, read->numbers["fallbacks.store \"x\" full"]);
  EXPECT_EQ("b", read->texts["notes.1"]);
}

TEST(ReportReader, WhatIsNoJsonIsRefused) {
  for (const char* text : {"", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\":1}x", "{\"a\":1-}", "\"a",
                           "\"a\\", "[1", "[[[[[[[[[[1]]]]]]]]]]"})
    EXPECT_FALSE(ReadReport(text).ok()) << text;
}

TEST(ReportReader, TheSummaryCountsChildrenAndGivesTimesPerChild) {
  Result<ReportValues> read = ReadReport(
      R"({"forks_remote":2,"forks_local":1,"workers":1,"bytes_captured":3000000,"bytes_shipped":1000000,)"
      R"("bytes_deduplicated":2000000,"capture_nanoseconds":4000000})");
  ASSERT_TRUE(read.ok());
  const std::string text = SummaryText(*read);
  EXPECT_NE(std::string::npos, text.find("2 children ran on 1 worker, 1 child at home\n")) << text;
  EXPECT_NE(std::string::npos, text.find("3.0 MB captured, 1.0 MB shipped, 2.0 MB there already")) << text;
  EXPECT_NE(std::string::npos, text.find("capture 2.0 ms")) << text;
}

TEST(ReportReader, ObjectsAreSaidLineByLine) {
  Result<ReportValues> read = ReadReport(
      R"({"objects":[{"kind":"semaphore","name":"/a","here":1,"across":2,"blocked_nanoseconds":3000000},)"
      R"({"kind":"others","name":"","here":4,"across":0,"blocked_nanoseconds":0},{"kind":"odd"}],)"
      R"("objects_not_listed":3})");
  ASSERT_TRUE(read.ok());
  const std::string text = SummaryText(*read);
  EXPECT_NE(std::string::npos,
            text.find("semaphore /a: 1 operation within a host, 2 across, blocked 3.0 ms\n"))
      << text;
  EXPECT_NE(std::string::npos, text.find("others: 4 operations within a host, 0 across")) << text;
  EXPECT_NE(std::string::npos, text.find("3 more objects that processes shared\n")) << text;
}

TEST(ReportReader, FallbacksAreSaidByReason) {
  Result<ReportValues> read = ReadReport(R"({"fallbacks":{"the store is full":3}})");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ("3 children ran at home: the store is full\n", FallbackText(*read));
  EXPECT_EQ("", FallbackText({}));
  read = ReadReport("{\"notes\":[\"/bin/x runs natively: statically linked program\"]}");
  ASSERT_TRUE(read.ok());
  EXPECT_EQ("/bin/x runs natively: statically linked program\n", NoteText(*read));
}

}  // namespace
}  // namespace elsewhere::runtime

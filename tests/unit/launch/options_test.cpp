#include "runtime/launch/options.h"

#include <gtest/gtest.h>

#include <map>

namespace elsewhere::runtime {
namespace {

ParsedOptions Parse(const std::vector<std::string>& arguments,
                    const std::map<std::string, std::string>& variables = {}) {
  return ParseOptions(arguments, [&](const char* name) {
    auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

void ExpectRefused(const std::vector<std::string>& arguments, const std::string& mentioned,
                   const std::map<std::string, std::string>& variables = {}) {
  ParsedOptions parsed = Parse(arguments, variables);
  ASSERT_FALSE(parsed.ok) << mentioned;
  EXPECT_EQ(kExitUsage, parsed.error.status);
  EXPECT_NE(std::string::npos, parsed.error.message.find(mentioned)) << parsed.error.message;
  EXPECT_EQ(std::string::npos, parsed.error.message.find('\n'));
}

TEST(Options, CommandBeginsAtTheFirstWordThatIsNoOption) {
  ParsedOptions parsed = Parse({"run", "--workers", "3", "ls", "--workers", "9", "--", "-l"});
  ASSERT_TRUE(parsed.ok);
  EXPECT_EQ(3U, parsed.options.workers);
  EXPECT_EQ((std::vector<std::string>{"ls", "--workers", "9", "--", "-l"}), parsed.options.command);
}

TEST(Options, AfterTwoDashesEverythingIsTheCommand) {
  ParsedOptions parsed = Parse({"run", "--strict", "--", "--odd", "x"});
  ASSERT_TRUE(parsed.ok);
  EXPECT_TRUE(parsed.options.strict);
  EXPECT_EQ((std::vector<std::string>{"--odd", "x"}), parsed.options.command);
}

TEST(Options, ADashAloneIsACommand) {
  EXPECT_EQ(std::vector<std::string>{"-"}, Parse({"run", "-"}).options.command);
}

TEST(Options, DefaultsAreTheEmbeddedOnes) {
  ParsedOptions parsed = Parse({"run", "true"});
  ASSERT_TRUE(parsed.ok);
  EXPECT_EQ(0U, parsed.options.workers);
  EXPECT_TRUE(parsed.options.redis.empty());
  EXPECT_TRUE(parsed.options.fork_remote);
  EXPECT_TRUE(parsed.options.direct_messages);
  EXPECT_EQ(Stats::kNone, parsed.options.stats);
}

TEST(Options, EveryOptionHasATwinInTheEnvironment) {
  ParsedOptions parsed = Parse({"run", "true"}, {{"ELSEWHERE_WORKERS", "5"},
                                                 {"ELSEWHERE_REDIS", "redis://host"},
                                                 {"ELSEWHERE_STORE", "dir:/x"},
                                                 {"ELSEWHERE_ENGINE", "local"},
                                                 {"ELSEWHERE_FORK", "local"},
                                                 {"ELSEWHERE_MESSAGES", "broker"},
                                                 {"ELSEWHERE_STATS", "json"},
                                                 {"ELSEWHERE_STRICT", "1"},
                                                 {"ELSEWHERE_VERBOSE", "yes"}});
  ASSERT_TRUE(parsed.ok) << parsed.error.message;
  EXPECT_EQ(5U, parsed.options.workers);
  EXPECT_EQ("redis://host", parsed.options.redis);
  EXPECT_EQ("dir:/x", parsed.options.store);
  EXPECT_FALSE(parsed.options.fork_remote);
  EXPECT_FALSE(parsed.options.direct_messages);
  EXPECT_EQ(Stats::kJson, parsed.options.stats);
  EXPECT_TRUE(parsed.options.strict);
  EXPECT_TRUE(parsed.options.verbose);
}

TEST(Options, AnOptionBeatsItsTwinAndAnEmptyTwinIsNone) {
  ParsedOptions parsed =
      Parse({"run", "--workers=2", "--stats", "true"},
            {{"ELSEWHERE_WORKERS", "5"}, {"ELSEWHERE_STRICT", ""}, {"ELSEWHERE_STATS", "0"}});
  ASSERT_TRUE(parsed.ok);
  EXPECT_EQ(2U, parsed.options.workers);
  EXPECT_EQ(Stats::kHuman, parsed.options.stats);
  EXPECT_FALSE(parsed.options.strict);
}

TEST(Options, WhatIsWrongIsNamed) {
  ExpectRefused({}, "elsewhere --help");
  ExpectRefused({"frob"}, "'frob'");
  ExpectRefused({"run"}, "no command given");
  ExpectRefused({"run", "--"}, "no command given");
  ExpectRefused({"run", "--frob", "x"}, "unknown option '--frob'");
  ExpectRefused({"run", "--workers"}, "--workers needs a value");
  for (const char* number : {"0", "64", "-1", "2x", "", "99999999999999999999"})
    ExpectRefused({"run", "--workers", number, "true"}, "1 to 63");
  ExpectRefused({"run", "--engine", "lambda", "true"}, "'lambda'");
  ExpectRefused({"run", "--fork", "here", "true"}, "'here'");
  ExpectRefused({"run", "--messages", "pigeon", "true"}, "'pigeon'");
  ExpectRefused({"run", "--strict=1", "true"}, "takes no value");
  ExpectRefused({"run", "--stats=xml", "true"}, "'xml'");
  ExpectRefused({"run", "true"}, "ELSEWHERE_WORKERS: 'many'", {{"ELSEWHERE_WORKERS", "many"}});
  ExpectRefused({"doctor", "now"}, "'now'");
}

}  // namespace
}  // namespace elsewhere::runtime

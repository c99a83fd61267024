// Files on S3 behind a proxy that breaks things: every call either does what it says or reports an error, and
// nothing that Flush has confirmed is lost.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "fault_proxy.h"
#include "shim/file/file_system.h"
#include "shim/store/s3_store.h"
#include "tests/unit/store/scratch_directory.h"

namespace elsewhere::file {
namespace {

int PortOf(const std::string& url) {
  return atoi(url.substr(url.rfind(':') + 1).c_str());
}

std::string Pattern(size_t size, unsigned seed) {
  std::minstd_rand random(seed);
  std::string text(size, '\0');
  for (auto& c : text) c = char(random());
  return text;
}

// FAULT_SEEDS=100,131: these from 100 up to 130.
std::vector<unsigned> Seeds() {
  unsigned from = 1, to = 4;
  if (const char* text = getenv("FAULT_SEEDS"); text && sscanf(text, "%u,%u", &from, &to) != 2) abort();
  std::vector<unsigned> seeds;
  for (unsigned seed = from; seed < to; ++seed) seeds.push_back(seed);
  return seeds;
}

class FileFaultTest : public testing::TestWithParam<unsigned> {
 protected:
  std::shared_ptr<store::S3Store> Open(const std::string& endpoint, unsigned attempts) {
    auto store = store::S3Store::Open(getenv("S3_BUCKET"), "faults " + std::to_string(GetParam()),
                                      {.endpoint = endpoint, .attempts = attempts, .stall_timeout_ms = 5000});
    if (!store) ADD_FAILURE() << store.error().message;
    return *store;
  }
  std::shared_ptr<FileSystem> Host(std::shared_ptr<store::ObjectStore> store, const std::string& name) {
    auto context = std::make_shared<FileContext>();
    context->store = std::move(store);
    context->cache = *FileCache::Open(directory_.path() + "/" + name, 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    return std::make_shared<FileSystem>(context, FileSystemOptions{.mount_point = "/data"});
  }
  void TearDown() override { EXPECT_TRUE(direct_->DeletePrefix("").ok()); }

  store::ScratchDirectory directory_;
  std::string server_ = getenv("S3_ENDPOINT");
  std::shared_ptr<store::S3Store> direct_ = Open(server_, 6);
};

// What may be in a file: the last confirmed content, or any that a failed flush since then may have sent.
using Possible = std::set<std::optional<std::string>>;

TEST_P(FileFaultTest, WhatWasConfirmedIsThere) {
  FaultProxy proxy(PortOf(server_), GetParam(), 25);
  // Few attempts, so that failures get through to the caller.
  auto host = Host(Open(proxy.url(), GetParam() % 2 ? 2 : 6), "cache");
  std::minstd_rand random(GetParam());
  std::map<std::string, Possible> files;
  unsigned confirmed = 0, failed = 0;
  for (int step = 0; step < 120; ++step) {
    std::string name = "file " + std::to_string(random() % 8);
    auto& possible = files.try_emplace(name, Possible{std::nullopt}).first->second;
    if (random() % 6 == 0) {
      auto gone = host->Unlink(name);
      if (gone) possible = {std::nullopt};
      if (!gone && gone.error().code != ENOENT) possible.insert(std::nullopt), ++failed;
      continue;
    }
    std::string content = Pattern(random() % 20 == 0 ? 12'000'000 : random() % 50'000, unsigned(step));
    auto file = host->Open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (!file) {
      ++failed;
      continue;
    }
    ASSERT_TRUE((*file)->Write(content, 0).ok());
    auto flushed = (*file)->Flush();
    if (flushed) {
      possible = {content};
      ++confirmed;
    } else {
      EXPECT_NE(flushed.error().code, 0);
      possible.insert(content);
      ++failed;
    }
    // The next step sees only what is in the store.
    file->reset();
  }
  for (auto& [name, possible] : files) {
    auto got = direct_->Get(name);
    std::optional<std::string> content;
    if (got) content = std::move(got->body);
    if (!content) {
      EXPECT_EQ(got.error().code, ENOENT) << got.error().message;
    }
    EXPECT_TRUE(possible.contains(content))
        << name << " holds " << (content ? std::to_string(content->size()) + " bytes" : "nothing");
  }
  EXPECT_GT(confirmed, 20u) << failed << " failed";
  EXPECT_GT(proxy.faults(), 10u);
}

TEST_P(FileFaultTest, WhatIsReadIsRight) {
  std::string content = Pattern(30'000'000, GetParam());
  ASSERT_TRUE(direct_->Put("k", content).ok());
  FaultProxy proxy(PortOf(server_), GetParam(), 20);
  auto host = Host(Open(proxy.url(), 6), "cache");
  std::minstd_rand random(GetParam());
  unsigned right = 0;
  for (int step = 0; step < 60; ++step) {
    auto file = host->Open("k", O_RDONLY, 0);
    if (!file) continue;
    uint64_t at = random() % content.size();
    std::string got(random() % 3'000'000, '\0');
    auto size = (*file)->Read(got, at);
    if (!size) continue;
    got.resize(*size);
    ASSERT_TRUE(got == content.substr(at, got.size()));
    ++right;
  }
  EXPECT_GT(right, 30u);
}

// After a success a line is there once; after an error at most once, also when the flush is repeated.
TEST_P(FileFaultTest, AppendedLinesAppearOnce) {
  ASSERT_TRUE(direct_->Put("log", "").ok());
  FaultProxy proxy(PortOf(server_), GetParam(), 25);
  std::vector<std::string> confirmed[2];
  std::vector<std::thread> hosts;
  for (int h = 0; h < 2; ++h)
    hosts.emplace_back([&, h] {
      auto host = Host(Open(proxy.url(), 6), "cache" + std::to_string(h));
      for (int i = 0; i < 25; ++i) {
        auto file = host->Open("log", O_WRONLY | O_APPEND, 0);
        if (!file) continue;
        std::string line = std::to_string(h) + " " + std::to_string(i) + "\n";
        ASSERT_TRUE((*file)->Append(line).ok());
        if ((*file)->Flush() || (i % 2 && (*file)->Flush())) confirmed[h].push_back(line);
      }
    });
  for (auto& host : hosts) host.join();
  std::map<std::string, unsigned> times;
  std::istringstream log(direct_->Get("log")->body);
  for (std::string line; std::getline(log, line);) ++times[line + "\n"];
  EXPECT_GT(confirmed[0].size() + confirmed[1].size(), 30u);
  for (auto& lines : confirmed)
    for (auto& line : lines) EXPECT_EQ(times[line], 1u) << "confirmed: " << line << log.str();
  // What was not confirmed may be there or not.
  for (auto& [line, count] : times) EXPECT_LE(count, 1u) << "doubled: " << line << log.str();
}

INSTANTIATE_TEST_SUITE_P(Seeds, FileFaultTest, testing::ValuesIn(Seeds()));

}  // namespace
}  // namespace elsewhere::file

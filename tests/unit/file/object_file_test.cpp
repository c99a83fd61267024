#include "shim/file/object_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <random>
#include <thread>
#include <utility>

#include "forwarding_store.h"
#include "test_store.h"

namespace elsewhere::file {
namespace {

std::string Pattern(size_t size, unsigned seed) {
  std::minstd_rand random(seed);
  std::string text(size, '\0');
  for (auto& c : text) c = char(random());
  return text;
}

class ObjectFileTest : public testing::Test {
 protected:
  // Hosts share the store but nothing else.
  std::shared_ptr<FileContext> NewHost(const std::string& name) {
    auto context = std::make_shared<FileContext>();
    context->store = test_store_.Open();
    context->cache = *FileCache::Open(directory_.path() + "/cache-" + name, 1ull << 30);
    context->workers = std::make_shared<Workers>(8);
    return context;
  }
  std::shared_ptr<ObjectFile> New(const std::shared_ptr<FileContext>& host, const std::string& key) {
    Attributes attributes;
    attributes.mode = S_IFREG | 0644;
    attributes.mtime_ns = NowNs();
    return *ObjectFile::Created(host, key, attributes);
  }
  std::shared_ptr<ObjectFile> Open(const std::shared_ptr<FileContext>& host, const std::string& key) {
    auto info = host->store->Head(key);
    if (!info) return nullptr;
    return *ObjectFile::Existing(host, key, AttributesOf(key, *info, {}), std::nullopt);
  }
  std::shared_ptr<ObjectFile> OpenToWrite(const std::shared_ptr<FileContext>& host, const std::string& key) {
    auto file = Open(host, key);
    EXPECT_TRUE(file->MakeWritable().ok());
    return file;
  }
  static std::string ReadAll(ObjectFile& file) {
    std::string text(file.attributes().size + 10, '\0');
    auto got = file.Read(text, 0);
    if (!got) return "error: " + got.error().message;
    text.resize(*got);
    return text;
  }
  std::string InStore(const std::string& key) { return home_->store->Get(key)->body; }

  store::ScratchDirectory directory_;
  TestStore test_store_;
  std::shared_ptr<FileContext> home_ = NewHost("home"), other_ = NewHost("other");
};

TEST_F(ObjectFileTest, WhatWasWrittenIsThereAfterFlush) {
  auto file = New(home_, "k");
  ASSERT_TRUE(file->Write("hello", 0).ok());
  ASSERT_TRUE(file->Write("world", 10).ok());
  EXPECT_EQ(home_->store->Head("k").error().code, ENOENT);
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(InStore("k"), std::string("hello\0\0\0\0\0world", 15));
  EXPECT_EQ(home_->store->Head("k")->metadata.at("mode"), std::to_string(S_IFREG | 0644));
  EXPECT_EQ(ReadAll(*Open(other_, "k")).size(), 15u);
  EXPECT_FALSE(file->changed());
}

TEST_F(ObjectFileTest, EmptyFilesAreObjects) {
  ASSERT_TRUE(New(home_, "k")->Flush().ok());
  EXPECT_EQ(ReadAll(*Open(other_, "k")), "");
}

TEST_F(ObjectFileTest, LargeFilesAreReadInPiecesAndKeptInTheCache) {
  std::string content = Pattern(30'000'001, 1);
  ASSERT_TRUE(home_->store->Put("k", content).ok());
  {
    auto file = Open(other_, "k");
    char byte;
    ASSERT_EQ(*file->Read({&byte, 1}, 17'000'000), 1u);
    EXPECT_EQ(byte, content[17'000'000]);
    struct stat status;
    fstat(file->fd(), &status);
    EXPECT_LE(status.st_blocks * 512, 256 << 10) << "one byte is not worth the whole file";
    EXPECT_TRUE(ReadAll(*file) == content);
  }
  ASSERT_TRUE(home_->store->Delete("k").ok());
  ASSERT_TRUE(home_->store->Put("k", content).ok());
  auto again = Open(other_, "k");
  ASSERT_TRUE(home_->store->Delete("k").ok());
  EXPECT_TRUE(ReadAll(*again) == content) << "the same version comes from the cache";
}

TEST_F(ObjectFileTest, WritersSendWhileTheyWrite) {
  // The writer waits for the first of eight parts under way when eight more are written.
  std::string content = Pattern(145'000'000, 2);
  auto file = New(home_, "k");
  for (size_t at = 0; at < content.size(); at += 1'000'000)
    ASSERT_TRUE(file->Write(std::string_view(content).substr(at, 1'000'000), at).ok());
  auto uploads = home_->store->ListUploads("");
  ASSERT_EQ(uploads->size(), 1u) << "nothing was sent before the flush";
  // As a video encoder that goes back to fill in its header.
  content.replace(5, 3, "abc");
  ASSERT_TRUE(file->Write("abc", 5).ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_TRUE(InStore("k") == content);
  EXPECT_TRUE(home_->store->ListUploads("")->empty());
}

TEST_F(ObjectFileTest, AbandonedWritersLeaveNoUpload) {
  {
    auto file = New(home_, "k");
    ASSERT_TRUE(file->Write(Pattern(40'000'000, 3), 0).ok());
  }
  EXPECT_TRUE(home_->store->ListUploads("")->empty());
  auto file = New(home_, "k");
  ASSERT_TRUE(file->Write(Pattern(40'000'000, 3), 0).ok());
  ASSERT_TRUE(file->Truncate(0).ok());
  ASSERT_TRUE(file->Write("short", 0).ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(InStore("k"), "short");
  EXPECT_TRUE(home_->store->ListUploads("")->empty());
}

TEST_F(ObjectFileTest, SmallChangesToLargeFiles) {
  std::string content = Pattern(40'000'000, 4);
  ASSERT_TRUE(home_->store->Put("k", content).ok());
  auto file = OpenToWrite(other_, "k");
  ASSERT_TRUE(file->Write("change", 20'000'000).ok());
  ASSERT_TRUE(file->Append("tail").ok());
  content.replace(20'000'000, 6, "change");
  content += "tail";
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_TRUE(InStore("k") == content);
  ASSERT_TRUE(file->Truncate(15'000'000).ok());
  ASSERT_TRUE(file->Flush().ok());
  content.resize(15'000'000);
  EXPECT_TRUE(InStore("k") == content);
  ASSERT_TRUE(file->Truncate(15'000'100).ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_TRUE(InStore("k") == content + std::string(100, '\0'));
}

TEST_F(ObjectFileTest, CutAndGrownAgainReadsZeros) {
  ASSERT_TRUE(home_->store->Put("k", "0123456789").ok());
  auto file = OpenToWrite(other_, "k");
  ASSERT_TRUE(file->Truncate(4).ok());
  ASSERT_TRUE(file->Truncate(8).ok());
  EXPECT_EQ(ReadAll(*file), std::string("0123\0\0\0\0", 8));
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(InStore("k"), std::string("0123\0\0\0\0", 8));
}

TEST_F(ObjectFileTest, ChangesOfTwoHostsAreBothKept) {
  ASSERT_TRUE(home_->store->Put("k", "0123456789").ok());
  auto first = OpenToWrite(home_, "k"), second = OpenToWrite(other_, "k");
  ASSERT_TRUE(first->Write("AA", 2).ok());
  ASSERT_TRUE(second->Write("BB", 6).ok());
  ASSERT_TRUE(first->Flush().ok());
  ASSERT_TRUE(second->Flush().ok());
  EXPECT_EQ(InStore("k"), "01AA45BB89");
  EXPECT_EQ(ReadAll(*second), "01AA45BB89");
}

TEST_F(ObjectFileTest, SendingTheSameContentAgainIsCounted) {
  auto file = New(home_, "k");
  ASSERT_TRUE(file->Write("question", 0).ok());
  ASSERT_TRUE(file->Flush().ok());
  const std::string etag = file->attributes().etag;
  EXPECT_EQ(file->times_sent(), 1u);
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(file->times_sent(), 1u) << "nothing was changed";
  auto theirs = OpenToWrite(other_, "k");
  ASSERT_TRUE(theirs->Write("answered", 0).ok());
  ASSERT_TRUE(theirs->Flush().ok());
  ASSERT_TRUE(file->Refresh().ok());
  EXPECT_EQ(ReadAll(*file), "answered");
  EXPECT_EQ(file->times_sent(), 1u) << "that was the other host";
  ASSERT_TRUE(file->Write("question", 0).ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(file->attributes().etag, etag);
  EXPECT_EQ(file->times_sent(), 2u);
}

TEST_F(ObjectFileTest, AppendsOfTwoHostsFollowEachOther) {
  for (size_t base : {size_t{0}, size_t{5}, size_t{20'000'000}}) {
    std::string content = Pattern(base, 5);
    ASSERT_TRUE(home_->store->Put("k", content).ok());
    auto first = OpenToWrite(home_, "k"), second = OpenToWrite(other_, "k");
    ASSERT_TRUE(first->Append("first ").ok());
    ASSERT_TRUE(second->Append("second").ok());
    ASSERT_TRUE(first->Flush().ok());
    ASSERT_TRUE(second->Flush().ok());
    EXPECT_TRUE(InStore("k") == content + "first second");
  }
}

// A store whose next conditional write has its answer lost, and another writer comes before that is seen.
class LosingStore : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::function<void()> meanwhile;  // set: the next write's answer is lost
  bool carried_out = true;
  int code = EALREADY;

  Result<store::ObjectInfo> PutPieces(std::string_view key, std::span<const std::string_view> pieces,
                                      const store::PutOptions& options) override {
    if (!meanwhile) return ForwardingStore::PutPieces(key, pieces, options);
    if (carried_out) {
      EXPECT_TRUE(ForwardingStore::PutPieces(key, pieces, options).ok());
    }
    std::exchange(meanwhile, nullptr)();
    return Error{code, "the answer was lost"};
  }
};

TEST_F(ObjectFileTest, AppendedBytesAreNotSentTwiceAfterALostAnswer) {
  for (int code : {EALREADY, ETIMEDOUT})
    for (bool carried_out : {true, false}) {
      ASSERT_TRUE(home_->store->Put("k", "base ").ok());
      auto losing = std::make_shared<LosingStore>(test_store_.Open());
      auto host = NewHost("losing");
      host->store = losing;
      auto file = OpenToWrite(host, "k");
      ASSERT_TRUE(file->Append("ours ").ok());
      losing->code = code;
      losing->carried_out = carried_out;
      losing->meanwhile = [&] {
        auto second = OpenToWrite(other_, "k");
        ASSERT_TRUE(second->Append("theirs ").ok());
        ASSERT_TRUE(second->Flush().ok());
      };
      auto flushed = file->Flush();
      if (code == ETIMEDOUT) {
        EXPECT_EQ(flushed.error().code, ETIMEDOUT);
        ASSERT_TRUE(file->Append("more ").ok());
        flushed = file->Flush();
      }
      if (carried_out) {
        for (int repeated = 0; repeated < 2; ++repeated, flushed = file->Flush())
          EXPECT_EQ(flushed.error().code, EIO);
        EXPECT_EQ(InStore("k"), "base ours theirs ");
      } else {
        EXPECT_TRUE(flushed.ok());
        EXPECT_EQ(InStore("k"), code == ETIMEDOUT ? "base theirs ours more " : "base theirs ours ");
      }
    }
}

// A store where something happens before every request of one kind.
class RivalStore : public ForwardingStore {
 public:
  using ForwardingStore::ForwardingStore;
  std::string verb;
  std::function<std::optional<Error>()> before;

 private:
  std::optional<Error> Refuse(std::string_view asked) override {
    return asked == verb ? before() : std::nullopt;
  }
};

TEST_F(ObjectFileTest, WhoLosesAgainAndAgainStoresItInTheEnd) {
  for (std::string verb : {"PUT", "GET"}) {
    ASSERT_TRUE(home_->store->Put("k", "base ").ok());
    auto rival = std::make_shared<RivalStore>(test_store_.Open());
    std::string expected = "base ";
    rival->verb = verb;
    rival->before = [&]() -> std::optional<Error> {
      if (expected.size() >= 200) return std::nullopt;
      auto theirs = OpenToWrite(other_, "k");
      EXPECT_TRUE(theirs->Append("theirs ").ok());
      EXPECT_TRUE(theirs->Flush().ok());
      expected += "theirs ";
      return std::nullopt;
    };
    auto host = NewHost("late");
    host->store = rival;
    auto file = OpenToWrite(host, "k");
    ASSERT_TRUE(file->Append("ours ").ok());
    auto flushed = file->Flush();
    EXPECT_TRUE(flushed.ok()) << verb << ": " << flushed.error().message;
    EXPECT_EQ(InStore("k"), expected + "ours ");
  }
}

TEST_F(ObjectFileTest, AServerThatRefusesWhatNobodyReplacedIsGivenUp) {
  ASSERT_TRUE(home_->store->Put("k", "base ").ok());
  auto rival = std::make_shared<RivalStore>(test_store_.Open());
  rival->verb = "PUT";
  rival->before = [] { return Error{ESTALE, "another version than expected"}; };
  auto host = NewHost("refused");
  host->store = rival;
  auto file = OpenToWrite(host, "k");
  ASSERT_TRUE(file->Append("ours ").ok());
  EXPECT_EQ(file->Flush().error().code, ESTALE);
  EXPECT_TRUE(file->changed());
  EXPECT_EQ(InStore("k"), "base ");
}

TEST_F(ObjectFileTest, ManyAppendersLoseNothing) {
  ASSERT_TRUE(home_->store->Put("log", "").ok());
  constexpr int kHosts = 4, kLines = 20;
  bool refused[kHosts][kLines] = {};
  auto line = [](int h, int i) { return "line " + std::to_string(h) + " " + std::to_string(i) + "\n"; };
  std::vector<std::thread> hosts;
  hosts.reserve(kHosts);
  for (int h = 0; h < kHosts; ++h)
    hosts.emplace_back([&, h] {
      auto host = NewHost("appender" + std::to_string(h));
      for (int i = 0; i < kLines; ++i) {
        auto file = OpenToWrite(host, "log");
        ASSERT_TRUE(file->Append(line(h, i)).ok());
        auto status = file->Flush();
        EXPECT_TRUE(status.ok()) << line(h, i) << status.error().message;
        refused[h][i] = !status;
      }
    });
  for (auto& host : hosts) host.join();
  const std::string log = InStore("log");
  size_t expected = 0;
  for (int h = 0; h < kHosts; ++h) {
    size_t at = 0;
    for (int i = 0; i < kLines; ++i) {
      if (refused[h][i]) continue;
      expected += line(h, i).size();
      at = log.find(line(h, i), at);
      ASSERT_NE(at, log.npos) << "stored, and lost: " << line(h, i);
    }
  }
  EXPECT_EQ(log.size(), expected) << "something is there twice, or although it was refused";
}

TEST_F(ObjectFileTest, TheLaterOfTwoReplacementsWins) {
  ASSERT_TRUE(home_->store->Put("k", "old content").ok());
  auto first = OpenToWrite(home_, "k"), second = OpenToWrite(other_, "k");
  for (auto [file, text] : {std::pair(first, "first, longer"), std::pair(second, "second")}) {
    ASSERT_TRUE(file->Truncate(0).ok());
    ASSERT_TRUE(file->Write(text, 0).ok());
  }
  ASSERT_TRUE(first->Flush().ok());
  ASSERT_TRUE(second->Flush().ok());
  EXPECT_EQ(InStore("k"), "second");
}

TEST_F(ObjectFileTest, AFileRemovedElsewhereIsStale) {
  ASSERT_TRUE(home_->store->Put("k", Pattern(1'000'000, 6)).ok());
  auto file = OpenToWrite(other_, "k");
  ASSERT_TRUE(home_->store->Delete("k").ok());
  char byte;
  EXPECT_EQ(file->Read({&byte, 1}, 0).error().code, ESTALE);
  ASSERT_TRUE(file->Write("x", 0).ok());
  EXPECT_EQ(file->Flush().error().code, ESTALE);
  EXPECT_TRUE(file->changed());
}

TEST_F(ObjectFileTest, AnUnlinkedFileLivesOnForItsHolders) {
  std::string content = Pattern(1'000'000, 7);
  ASSERT_TRUE(home_->store->Put("k", content).ok());
  auto file = OpenToWrite(other_, "k");
  ASSERT_TRUE(file->Unlink().ok());
  ASSERT_TRUE(home_->store->Delete("k").ok());
  EXPECT_TRUE(ReadAll(*file) == content);
  ASSERT_TRUE(file->Write("x", 0).ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(home_->store->Head("k").error().code, ENOENT);
}

TEST_F(ObjectFileTest, OnlyAttributesAreCopiedInTheStore) {
  ASSERT_TRUE(home_->store->Put("k", "content", {.metadata = {{"from-elsewhere", "kept"}}}).ok());
  auto file = Open(home_, "k");
  Attributes attributes = file->attributes();
  attributes.mode = S_IFREG | 0600;
  attributes.mtime_ns = 1'500'000'000;
  file->SetAttributes(attributes);
  ASSERT_TRUE(file->Flush().ok());
  auto info = home_->store->Head("k");
  EXPECT_EQ(info->metadata.at("mode"), std::to_string(S_IFREG | 0600));
  EXPECT_EQ(info->metadata.at("mtime"), "1.500000000");
  EXPECT_EQ(info->metadata.at("from-elsewhere"), "kept");
  EXPECT_EQ(InStore("k"), "content");
}

TEST_F(ObjectFileTest, AWriterDoesNotChangeWhatTheCacheKeepsOfAVersion) {
  ASSERT_TRUE(home_->store->Put("k", "version one").ok());
  EXPECT_EQ(ReadAll(*Open(other_, "k")), "version one");
  auto writer = OpenToWrite(other_, "k");
  ASSERT_TRUE(writer->Write("VERSION", 0).ok());
  EXPECT_EQ(ReadAll(*Open(other_, "k")), "version one");
  writer.reset();
  EXPECT_EQ(ReadAll(*Open(other_, "k")), "version one");
}

// A model in memory against random operations, with conflicts and reopening.
TEST_F(ObjectFileTest, AgreesWithAFileInMemory) {
  std::minstd_rand random(11);
  std::string model = Pattern(13'000'000, 12);
  ASSERT_TRUE(home_->store->Put("k", model).ok());
  auto file = OpenToWrite(home_, "k");
  for (int step = 0; step < 150; ++step) {
    size_t at = random() % 14'000'000, length = random() % 100'000;
    switch (random() % 7) {
      case 0:
      case 1: {
        std::string data = Pattern(length, unsigned(step));
        ASSERT_TRUE(file->Write(data, at).ok());
        if (length == 0) break;
        if (model.size() < at + length) model.resize(at + length);
        model.replace(at, length, data);
        break;
      }
      case 2: {
        std::string data(length, '\0');
        auto got = file->Read(data, at);
        ASSERT_TRUE(got.ok());
        data.resize(*got);
        ASSERT_TRUE(data == (at < model.size() ? model.substr(at, length) : "")) << step;
        break;
      }
      case 3:
        if (random() % 4 == 0) {
          ASSERT_TRUE(file->Truncate(at).ok());
          model.resize(at);
        }
        break;
      case 4: {
        ASSERT_TRUE(file->Append("end").ok());
        model += "end";
        break;
      }
      case 5:
        ASSERT_TRUE(file->Flush().ok());
        ASSERT_TRUE(InStore("k") == model) << step;
        break;
      case 6:
        ASSERT_TRUE(file->Flush().ok());
        file.reset();
        file = OpenToWrite(random() % 2 ? home_ : other_, "k");
        break;
    }
  }
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_TRUE(InStore("k") == model);
}

}  // namespace
}  // namespace elsewhere::file

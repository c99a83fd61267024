// The S3 client against a real server, which tests/s3/rgw starts and describes in the environment.
#include "shim/store/s3_store.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <thread>

namespace elsewhere::store {
namespace {

std::string Variable(const char* name) {
  const char* value = getenv(name);
  if (!value) ADD_FAILURE() << name << " is not set: run this by tests/s3/rgw run DIR";
  return value ? value : "";
}

class S3StoreTest : public testing::Test {
 protected:
  // Each test has a prefix of its own and leaves nothing.
  void SetUp() override {
    std::string test = testing::UnitTest::GetInstance()->current_test_info()->name();
    prefix_ = "tests of the client/" + test;
    store_ = Open({});
  }
  void TearDown() override { EXPECT_TRUE(store_->DeletePrefix("").ok()); }
  std::shared_ptr<S3Store> Open(StoreOptions options, std::string bucket = Variable("S3_BUCKET")) {
    if (options.endpoint.empty()) options.endpoint = Variable("S3_ENDPOINT");
    auto store = S3Store::Open(bucket, prefix_, options);
    if (!store) ADD_FAILURE() << store.error().message;
    return *store;
  }

  std::string prefix_;
  std::shared_ptr<S3Store> store_;
};

using Strings = std::vector<std::string>;

Strings Keys(const ListPage& page) {
  Strings keys;
  for (auto& entry : page.objects) keys.push_back(entry.key);
  return keys;
}

TEST_F(S3StoreTest, KeepsContentMetadataAndTimes) {
  auto put = store_->Put("a/b", "content", {.content_type = "text/plain", .metadata = {{"mode", "33188"}}});
  ASSERT_TRUE(put.ok()) << put.error().message;
  auto got = store_->Get("a/b");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->body, "content");
  EXPECT_EQ(got->info.size, 7u);
  EXPECT_EQ(got->info.etag, put->etag);
  EXPECT_EQ(got->info.content_type, "text/plain");
  EXPECT_EQ(got->info.metadata, (Metadata{{"mode", "33188"}}));
  auto head = store_->Head("a/b");
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->size, 7u);
  EXPECT_EQ(head->metadata, got->info.metadata);
  EXPECT_GT(head->modified_ns, 1'700'000'000'000'000'000);
  EXPECT_EQ(store_->Get("a").error().code, ENOENT);
  EXPECT_EQ(store_->Head("a").error().code, ENOENT);
  ASSERT_TRUE(store_->Delete("a/b").ok());
  ASSERT_TRUE(store_->Delete("a/b").ok());
  EXPECT_EQ(store_->Head("a/b").error().code, ENOENT);
}

TEST_F(S3StoreTest, ManyAreAskedForAtOnce) {
  std::vector<std::string> keys;
  for (size_t i = 0; i < 40; ++i) {
    keys.push_back("many/" + std::to_string(i));
    if (i % 3 == 0) continue;
    ASSERT_TRUE(store_->Put(keys[i], std::string(i, 'x')).ok());
  }
  auto infos = store_->HeadMany(keys);
  ASSERT_EQ(infos.size(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(infos[i].ok(), i % 3 != 0) << i;
    EXPECT_EQ(infos[i] ? infos[i]->size : 0, i % 3 != 0 ? i : 0);
    EXPECT_EQ(infos[i] ? 0 : infos[i].error().code, i % 3 != 0 ? 0 : ENOENT);
  }
  EXPECT_TRUE(store_->HeadMany({}).empty());
}

TEST_F(S3StoreTest, MetadataIsSignedAsItArrives) {
  auto put = store_->Put("k", "x",
                         {.content_type = "text/plain;  charset=x",
                          .metadata = {{"spaced", "two  blanks  and : more"}, {"utf-8", "\xc3\xa4"}}});
  ASSERT_TRUE(put.ok()) << put.error().message;
  EXPECT_FALSE(store_->Head("k")->metadata["spaced"].empty());
  for (auto& [name, value] : Metadata{{"line", "a\r\nx-amz-acl: public-read"}, {"a:b", "x"}, {"", "x"}})
    EXPECT_EQ(store_->Put("k", "x", {.metadata = {{name, value}}}).error().code, EINVAL);
}

TEST_F(S3StoreTest, EmptyObjectsAndPieces) {
  ASSERT_TRUE(store_->Put("empty", "").ok());
  auto got = store_->Get("empty");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->body, "");
  EXPECT_EQ(store_->Get("empty", {.range = {0, 10}})->body, "");
  std::vector<std::string_view> pieces(3000, "ab");
  ASSERT_TRUE(store_->PutPieces("pieces", pieces).ok());
  EXPECT_EQ(store_->Get("pieces")->body.size(), 6000u);
}

TEST_F(S3StoreTest, RangesAreCutAtTheEnd) {
  ASSERT_TRUE(store_->Put("k", "0123456789").ok());
  auto body = [&](uint64_t offset, uint64_t length) {
    auto got = store_->Get("k", {.range = {offset, length}});
    if (!got) return got.error().message;
    EXPECT_EQ(got->info.size, 10u);
    return got->body;
  };
  EXPECT_EQ(body(2, 3), "234");
  EXPECT_EQ(body(8, 10), "89");
  EXPECT_EQ(body(10, 1), "");
  EXPECT_EQ(body(1000, kToEnd), "");
  EXPECT_EQ(body(9, kToEnd), "9");
  EXPECT_EQ(body(3, 0), "");
  char buffer[4];
  EXPECT_EQ(*store_->GetInto("k", buffer, {.range = {7, kToEnd}}), 3u);
  EXPECT_EQ(std::string(buffer, 3), "789");
  EXPECT_EQ(*store_->GetInto("k", buffer, {.range = {20, kToEnd}}), 0u);
}

TEST_F(S3StoreTest, KeysMayLookLikeAnything) {
  Strings keys = {"a",       "a b",   "a+b",    "a%20b",    "%",
                  "a//b",    "a/./b", "a/../b", "?x=1&y#z", "\xc3\xa4/\xe2\x82\xac",
                  "a\"<>&'", "~!*()"};
  for (auto& key : keys) {
    auto put = store_->Put(key, key);
    ASSERT_TRUE(put.ok()) << put.error().message;
  }
  for (auto& key : keys) EXPECT_EQ(store_->Get(key)->body, key);
  std::sort(keys.begin(), keys.end());
  auto page = store_->List({});
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_EQ(Keys(*page), keys);
  for (auto& key : keys) {
    auto copied = store_->Copy(key, "copy");
    EXPECT_TRUE(copied.ok()) << copied.error().message;
    EXPECT_EQ(store_->Get("copy")->body, key);
  }
  EXPECT_EQ(*store_->DeletePrefix(""), keys.size() + 1);
  EXPECT_TRUE(store_->List({})->objects.empty());
}

TEST_F(S3StoreTest, ConditionsOnPutAndGet) {
  auto first = store_->Put("k", "1", {.if_absent = true});
  ASSERT_TRUE(first.ok()) << first.error().message;
  EXPECT_EQ(store_->Put("k", "2", {.if_absent = true}).error().code, EEXIST);
  auto second = store_->Put("k", "2", {.if_match = first->etag});
  ASSERT_TRUE(second.ok()) << second.error().message;
  EXPECT_EQ(store_->Put("k", "3", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_EQ(store_->Put("none", "3", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_EQ(store_->Get("k", {.if_match = first->etag}).error().code, ESTALE);
  EXPECT_TRUE(store_->Get("k", {.if_none_match = second->etag})->not_modified);
  EXPECT_EQ(store_->Get("k", {.if_match = second->etag})->body, "2");
  EXPECT_TRUE(store_->Get("k")->info.metadata.empty()) << "the write mark is our own affair";
}

TEST_F(S3StoreTest, ExactlyOneOfSixteenRacersWins) {
  for (bool replace : {false, true}) {
    PutOptions options{.if_absent = !replace};
    if (replace) options.if_match = store_->Head("k")->etag;
    std::atomic<int> winners{0}, losers{0};
    std::string winner;
    std::vector<std::thread> racers;
    for (int i = 0; i < 16; ++i)
      racers.emplace_back([&, i] {
        std::string content = (replace ? "second " : "first ") + std::to_string(i);
        auto put = store_->Put("k", content, options);
        if (put) ++winners, winner = content;
        // Ceph 16 answers some racers 500, after which nobody can tell them that they never won.
        if (!put && (put.error().code == (replace ? ESTALE : EEXIST) || put.error().code == EALREADY))
          ++losers;
      });
    for (auto& racer : racers) racer.join();
    EXPECT_EQ(winners, 1);
    EXPECT_EQ(losers, 15);
    EXPECT_EQ(store_->Get("k")->body, winner);
  }
}

TEST_F(S3StoreTest, ListsMoreThanOnePage) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = t; i < 1100; i += 8)
        ASSERT_TRUE(store_->Put("dir " + std::to_string(i % 3) + "/" + std::to_string(1000 + i), "x").ok());
    });
  for (auto& thread : threads) thread.join();
  for (unsigned size : {1000u, 300u}) {
    Strings seen;
    ListRequest request{.max_keys = size};
    do {
      auto page = store_->List(request);
      ASSERT_TRUE(page.ok()) << page.error().message;
      EXPECT_LE(page->objects.size(), size);
      for (auto& key : Keys(*page)) seen.push_back(key);
      request.token = page->next_token;
    } while (!request.token.empty());
    EXPECT_EQ(seen.size(), 1100u);
    EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  }
  auto folders = store_->List({.folders = true});
  EXPECT_EQ(folders->folders, (Strings{"dir 0/", "dir 1/", "dir 2/"}));
  EXPECT_TRUE(folders->objects.empty());
  auto behind = store_->List({.prefix = "dir 1/", .start_after = "dir 1/2090"});
  EXPECT_EQ(Keys(*behind), (Strings{"dir 1/2093", "dir 1/2096", "dir 1/2099"}));
  EXPECT_EQ(*store_->DeletePrefix("dir 1/"), 367u);
}

TEST_F(S3StoreTest, MultipartUploadsAndPartsFromOtherObjects) {
  std::string five_mib(5 << 20, 'a');
  for (size_t i = 0; i < five_mib.size(); i += 97) five_mib[i] = char('a' + i % 26);
  ASSERT_TRUE(store_->Put("source", five_mib).ok());
  auto id = store_->BeginUpload("big file", {.content_type = "video/mp4", .metadata = {{"mode", "1"}}});
  ASSERT_TRUE(id.ok()) << id.error().message;
  auto second = store_->PutPart("big file", *id, 2, five_mib);
  auto first =
      store_->CopyPart("big file", *id, 1, "source", {0, five_mib.size()}, store_->Head("source")->etag);
  ASSERT_TRUE(first.ok()) << first.error().message;
  auto third = store_->PutPart("big file", *id, 3, "tail");
  ASSERT_TRUE(second.ok() && third.ok());
  EXPECT_EQ(store_->Head("big file").error().code, ENOENT);
  auto uploads = store_->ListUploads("big");
  ASSERT_TRUE(uploads.ok()) << uploads.error().message;
  ASSERT_EQ(uploads->size(), 1u);
  EXPECT_EQ(uploads->front().key, "big file");
  EXPECT_EQ(uploads->front().upload_id, *id);

  std::vector<UploadPart> wrong = {*first, {2, std::string(32, '0')}, *third};
  auto refused = store_->CompleteUpload("big file", *id, wrong);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, EINVAL) << refused.error().message;
  std::vector<UploadPart> parts = {*first, *second, *third};
  auto done = store_->CompleteUpload("big file", *id, parts);
  ASSERT_TRUE(done.ok()) << done.error().message;
  auto got = store_->Get("big file");
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_TRUE(got->body == five_mib + five_mib + "tail");
  EXPECT_EQ(got->info.etag, done->etag);
  EXPECT_EQ(got->info.metadata.at("mode"), "1");
  EXPECT_EQ(got->info.content_type, "video/mp4");
  auto repeated = store_->CompleteUpload("big file", *id, parts);
  EXPECT_TRUE(repeated.ok()) << "a completion whose answer was lost: " << repeated.error().message;

  auto aborted = *store_->BeginUpload("x");
  ASSERT_TRUE(store_->PutPart("x", aborted, 1, "data").ok());
  ASSERT_TRUE(store_->AbortUpload("x", aborted).ok());
  EXPECT_TRUE(store_->ListUploads("")->empty());
  EXPECT_EQ(store_->PutPart("x", aborted, 2, "data").error().code, ENOENT);
}

TEST_F(S3StoreTest, CopiesWithOldOrNewMetadata) {
  auto put = store_->Put("a", "content", {.metadata = {{"x", "1"}}});
  ASSERT_TRUE(store_->Copy("a", "b").ok());
  EXPECT_EQ(store_->Get("b")->info.metadata, (Metadata{{"x", "1"}}));
  auto self = store_->Copy("a", "a", {.if_match = put->etag, .metadata = Metadata{{"y", "2"}}});
  ASSERT_TRUE(self.ok()) << self.error().message;
  EXPECT_EQ(store_->Get("a")->info.metadata, (Metadata{{"y", "2"}}));
  auto stale = store_->Copy("a", "c", {.if_match = std::string(32, '0')});
  ASSERT_FALSE(stale.ok());
  EXPECT_EQ(stale.error().code, ESTALE) << stale.error().message;
  EXPECT_EQ(store_->Copy("none", "c").error().code, ENOENT);
}

TEST_F(S3StoreTest, ACopyOntoItselfNeverBringsAnOlderVersionBack) {
  std::string etag = store_->Put("k", "0")->etag, content = "0";
  std::atomic<bool> ended = false;
  std::thread copier([&] {
    while (!ended) {
      const auto info = store_->Head("k");
      if (info) (void)store_->Copy("k", "k", {.if_match = info->etag, .metadata = Metadata{{"a", "b"}}});
    }
  });
  for (int i = 1; i <= 300; ++i) {
    const std::string next = std::to_string(i);
    // Nobody else changes the content, so this version is there.
    auto put = store_->Put("k", next, {.if_match = etag});
    if (put) {
      etag = put->etag, content = next;
      continue;
    }
    // Ceph 16 may answer 500 to who loses a race, however often he tries: then either version is right.
    EXPECT_EQ(put.error().code, EIO) << i << ": " << put.error().message;
    auto found = store_->Get("k");
    EXPECT_TRUE(found && (found->body == content || found->body == next)) << i;
    if (put.error().code != EIO || !found) break;
    etag = found->info.etag, content = found->body;
  }
  ended = true;
  copier.join();
}

TEST_F(S3StoreTest, WrongKeysAndMissingBucketsAreNamed) {
  std::string id = Variable("AWS_ACCESS_KEY_ID"), secret = Variable("AWS_SECRET_ACCESS_KEY");
  auto with = [&](const std::string& other_id, const std::string& other_secret) {
    setenv("AWS_ACCESS_KEY_ID", other_id.c_str(), 1);
    setenv("AWS_SECRET_ACCESS_KEY", other_secret.c_str(), 1);
    auto store = Open({});
    setenv("AWS_ACCESS_KEY_ID", id.c_str(), 1);
    setenv("AWS_SECRET_ACCESS_KEY", secret.c_str(), 1);
    return store;
  };
  auto expect = [](const Error& error, int code, std::string_view text) {
    EXPECT_EQ(error.code, code) << error.message;
    EXPECT_NE(error.message.find(text), std::string::npos) << error.message;
    EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
  };
  expect(with(id, "wrong")->Get("k").error(), EACCES, "secret key is wrong");
  expect(with("NOBODY", secret)->Put("k", "x").error(), EACCES, "does not know the access key");
  expect(with(id, "wrong")->Head("k").error(), EACCES, "wrong keys");
  auto other = with(Variable("S3_OTHER_ID"), Variable("S3_OTHER_SECRET"));
  expect(other->Put("k", "x").error(), EACCES, "permission denied");
  expect(other->List({}).error(), EACCES, "permission denied");
  auto nowhere = Open({}, "no-such-bucket");
  expect(nowhere->Get("k").error(), ENXIO, "no such bucket");
  expect(nowhere->Head("k").error(), ENXIO, "no such bucket");
  expect(nowhere->Put("k", "x").error(), ENXIO, "no such bucket");
  expect(nowhere->List({}).error(), ENXIO, "no such bucket");
}

TEST_F(S3StoreTest, TlsNeedsATrustedCertificate) {
  auto store = Open({.endpoint = Variable("S3_ENDPOINT_TLS"), .ca_file = Variable("S3_CA")});
  ASSERT_TRUE(store->Put("k", "content").ok());
  EXPECT_EQ(store->Get("k")->body, "content");
  auto distrusting = Open({.endpoint = Variable("S3_ENDPOINT_TLS")});
  auto refused = distrusting->Get("k");
  EXPECT_EQ(refused.error().code, EPROTO) << refused.error().message;
  EXPECT_NE(refused.error().message.find("certificate"), std::string::npos) << refused.error().message;
}

TEST_F(S3StoreTest, VirtualHostStyle) {
  auto store = Open({.endpoint = Variable("S3_ENDPOINT_NAMED"), .path_style = false});
  auto put = store->Put("k", "content");
  ASSERT_TRUE(put.ok()) << put.error().message;
  EXPECT_EQ(store_->Get("k")->body, "content");
  EXPECT_EQ(Keys(*store->List({})), Strings{"k"});
}

TEST_F(S3StoreTest, ConnectionsAreKeptAndBounded) {
  auto sockets = [] {
    int count = 0;
    for (auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      count += std::filesystem::read_symlink(entry.path(), gone).string().starts_with("socket:");
    }
    return count;
  };
  store_.reset();
  int before = sockets();
  store_ = Open({.connections = 4});
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(store_->Put("k", std::to_string(i)).ok());
  // libcurl's wake-up is a socket pair, of the client's thread and of each line.
  EXPECT_LE(sockets() - before, 2 + 3);
  std::vector<std::thread> threads;
  for (int t = 0; t < 12; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) ASSERT_TRUE(store_->Get("k").ok());
    });
  for (auto& thread : threads) thread.join();
  // Four lines, and as many connections of the thread.
  EXPECT_LE(sockets() - before, 2 + 4 * 3 + 4);
}

}  // namespace
}  // namespace elsewhere::store

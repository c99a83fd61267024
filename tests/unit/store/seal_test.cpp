#include "shim/store/seal.h"

#include <gtest/gtest.h>

#include <set>

namespace elsewhere::store {
namespace {

TEST(Seal, OpensWhatWasSealedWithTheSameKeyAndContext) {
  auto key = *SessionKey::Generate();
  for (size_t size : {size_t{0}, size_t{1}, size_t{65536}, size_t{3'000'001}}) {
    std::string plain(size, 'x');
    auto sealed = key.Seal(plain, "object/1");
    ASSERT_TRUE(sealed.ok());
    EXPECT_EQ(sealed->size(), size + kSealOverhead);
    auto open = key.Open(*sealed, "object/1");
    ASSERT_TRUE(open.ok()) << open.error().message;
    EXPECT_EQ(*open, plain);
  }
}

TEST(Seal, RefusesEveryChangedByteAnotherContextAndAnotherKey) {
  auto key = *SessionKey::Generate();
  auto sealed = *key.Seal("a secret", "here");
  EXPECT_EQ(key.Open(sealed, "there").error().code, EBADMSG);
  EXPECT_EQ((*SessionKey::Generate()).Open(sealed, "here").error().code, EBADMSG);
  for (size_t i = 0; i < sealed.size(); ++i) {
    std::string changed = sealed;
    changed[i] = char(changed[i] ^ 1);
    EXPECT_EQ(key.Open(changed, "here").error().code, EBADMSG) << "byte " << i;
  }
  for (size_t size = 0; size < sealed.size(); ++size)
    EXPECT_EQ(key.Open(std::string_view(sealed).substr(0, size), "here").error().code, EBADMSG);
}

TEST(Seal, NeverMakesTheSameRandomBytesTwice) {
  auto key = *SessionKey::Generate();
  std::set<std::string> seen;
  for (int i = 0; i < 10000; ++i) EXPECT_TRUE(seen.insert(key.Seal("same", "same")->substr(1, 16)).second);
}

TEST(Seal, KeyTravelsAsHex) {
  auto key = *SessionKey::Generate();
  auto copy = SessionKey::FromHex(key.ToHex());
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(*copy->Open(*key.Seal("text", "c"), "c"), "text");
  EXPECT_EQ(copy->NameOf("chunk"), key.NameOf("chunk"));
  EXPECT_EQ(SessionKey::FromHex("12").error().code, EINVAL);
  EXPECT_EQ(SessionKey::FromHex(std::string(64, 'g')).error().code, EINVAL);
}

TEST(Seal, ChunkNamesDependOnContentAndKey) {
  auto key = *SessionKey::Generate();
  auto other = *SessionKey::Generate();
  EXPECT_EQ(key.NameOf("a"), key.NameOf("a"));
  EXPECT_NE(key.NameOf("a"), key.NameOf("b"));
  EXPECT_NE(key.NameOf("a"), other.NameOf("a"));
  EXPECT_EQ(ToHex(key.NameOf("a")).size(), 32u);
}

// Fixed so that a change of the derivation cannot pass unseen: stored objects would become unreadable.
TEST(Seal, FormatIsFixed) {
  auto key = *SessionKey::FromHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
  EXPECT_EQ(ToHex(key.NameOf("elsewhere")), "fbfc491fcacc54ea6c0e21875625e188");
}

}  // namespace
}  // namespace elsewhere::store

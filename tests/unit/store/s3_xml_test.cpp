#include "shim/store/s3_xml.h"

#include <gtest/gtest.h>

namespace elsewhere::store {
namespace {

TEST(S3Xml, Listing) {
  auto page = ParseListing(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix>p</Prefix>
<NextContinuationToken>to/ken==</NextContinuationToken><IsTruncated>true</IsTruncated>
<Contents><Key>p/a+b%26</Key><LastModified>2026-11-21T03:00:00.250Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>7</Size>
<Owner><ID>x</ID></Owner></Contents><Contents><Key>p/c</Key><Size>0</Size></Contents>
<CommonPrefixes><Prefix>p/d%2F</Prefix></CommonPrefixes></ListBucketResult>)");
  ASSERT_TRUE(page.ok());
  ASSERT_EQ(page->objects.size(), 2u);
  EXPECT_EQ(page->objects[0].key, "p/a b&");
  EXPECT_EQ(page->objects[0].etag, "abc");
  EXPECT_EQ(page->objects[0].size, 7u);
  EXPECT_EQ(page->objects[0].modified_ns, 1795230000'250'000'000);
  EXPECT_EQ(page->objects[1].etag, "");
  EXPECT_EQ(page->folders, std::vector<std::string>{"p/d/"});
  EXPECT_EQ(page->next_token, "to/ken==");
}

TEST(S3Xml, ErrorsAndWhatIsNone) {
  S3Error error;
  EXPECT_TRUE(ParseS3Error(
      "<Error><Code>NoSuchKey</Code><Message>m</Message><Region>eu-west-1</Region></Error>", &error));
  EXPECT_EQ(error.code, "NoSuchKey");
  EXPECT_EQ(error.region, "eu-west-1");
  EXPECT_FALSE(ParseS3Error("<Other><Code>x</Code></Other>", &error));
  EXPECT_FALSE(ParseS3Error("", &error));
  EXPECT_FALSE(ParseS3Error("<Error><Code>", &error));
  for (auto bad : {"", "text", "<html></html>", "<ListBucketResult>", "<ListBucketResult></x>"})
    EXPECT_EQ(ParseListing(bad).error().code, EBADMSG) << bad;
}

TEST(S3Xml, EntitiesAreNotExpanded) {
  EXPECT_EQ(
      ParseListing("<!DOCTYPE x [<!ENTITY a \"aaaa\">]><ListBucketResult><Name>&a;</Name></ListBucketResult>")
          .error()
          .code,
      EBADMSG);
}

TEST(S3Xml, DeleteErrorsAndUploads) {
  auto errors =
      ParseDeleteErrors("<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>");
  ASSERT_EQ(errors->size(), 1u);
  EXPECT_EQ(errors->front().first, "k");
  auto uploads = ParseUploads(
      "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>a%2Fb</Key><UploadId>1</"
      "UploadId>"
      "<Initiated>2026-11-21T03:00:00Z</Initiated></Upload></ListMultipartUploadsResult>");
  ASSERT_EQ(uploads->uploads.size(), 1u);
  EXPECT_EQ(uploads->uploads[0].key, "a/b");
  EXPECT_EQ(uploads->uploads[0].started_ns, 1795230000'000'000'000);
}

TEST(S3Xml, WhatIsSentIsEscaped) {
  std::vector<std::string> keys = {"a&<b>"};
  EXPECT_EQ(DeleteXml(keys),
            "<Delete><Quiet>true</Quiet><Object><Key>a&amp;&lt;b&gt;</Key></Object></Delete>");
  EXPECT_TRUE(XmlCanSay("plain text"));
  EXPECT_FALSE(XmlCanSay(std::string_view("\x01", 1)));
}

TEST(S3Xml, Times) {
  EXPECT_EQ(ParseTime("Sat, 21 Nov 2026 03:00:00 GMT"), 1795230000'000'000'000);
  EXPECT_EQ(ParseTime("yesterday"), 0);
}

}  // namespace
}  // namespace elsewhere::store

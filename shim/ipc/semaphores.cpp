#include "shim/ipc/semaphores.h"

#include <fcntl.h>

#include <charconv>

namespace elsewhere::ipc {
namespace {

// Fixed width, so that the waiters of one object are a range of bytes.
std::string ObjectText(uint64_t object) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; object >>= 4) text[i] = "0123456789abcdef"[object & 15];
  return text;
}

template <class Number>
bool Parse(std::string_view text, Number* number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// "object:mode:created"
bool ParseNamed(std::string_view text, Semaphores::Named* named) {
  const size_t first = text.find(':');
  const size_t second = text.rfind(':');
  if (first == std::string_view::npos || second == first) return false;
  named->created = text.substr(second + 1) == "1";
  return Parse(text.substr(0, first), &named->object, 16) &&
         Parse(text.substr(first + 1, second - first - 1), &named->mode);
}

}  // namespace

Semaphores::Semaphores(broker::RedisConnection& connection, const broker::SessionKeys& keys, HostId self,
                       GrantEncoder encode_grant, FailureCallback on_failure)
    : connection_(connection),
      semaphores_key_(keys.semaphores()),
      waiters_key_(keys.waiters()),
      names_key_(keys.names()),

      self_(std::to_string(self)),
      encode_grant_(std::move(encode_grant)),
      on_failure_(std::move(on_failure)) {}

void Semaphores::Issue(std::string_view operation, uint64_t object, const std::vector<std::string>& extra,
                       Answer answer, broker::Wake wake) {
  auto issued = std::make_shared<Operation>();
  issued->sequence = ++last_sequence_;
  issued->answer = std::move(answer);
  issued->wake = wake;
  unanswered_.insert(issued->sequence);
  const std::string sequence = std::to_string(issued->sequence);
  const std::string oldest = std::to_string(*unanswered_.begin());
  const std::string object_text = ObjectText(object);
  issued->words = 9;
  for (const std::string_view word :
       {std::string_view("3"), std::string_view(semaphores_key_), std::string_view(waiters_key_),
        std::string_view(names_key_), operation, std::string_view(self_), std::string_view(sequence),
        std::string_view(oldest), std::string_view(object_text)})
    broker::AppendArgument(&issued->call, word);
  for (const std::string& word : extra) broker::AppendArgument(&issued->call, word);
  issued->words += extra.size();
  Run(std::move(issued), false);
}

void Semaphores::Run(std::shared_ptr<Operation> operation, bool with_body) {
  const broker::Script& script = SemaphoreScript();
  std::string wire;
  wire.reserve(operation->call.size() + 80 + (with_body ? script.body().size() : 0));
  broker::AppendCommandHead(&wire, operation->words + 2);
  broker::AppendArgument(&wire, with_body ? "EVAL" : "EVALSHA");
  broker::AppendArgument(&wire, with_body ? script.body() : script.digest());
  wire += operation->call;
  const broker::Wake wake = operation->wake;
  connection_.Submit(
      wire,
      [this, operation = std::move(operation)](const broker::Reply& reply) { OnReply(operation, reply); },
      broker::Repeat::kSafe, wake);
}

void Semaphores::OnReply(const std::shared_ptr<Operation>& operation, const broker::Reply& reply) {
  // Everything of this host behind an operation that has to be sent again is early, and sent again behind it.
  if (reply.IsError() && (reply.text().starts_with("NOSCRIPT") || reply.text().starts_with("EARLY")))
    return Run(operation, true);
  unanswered_.erase(operation->sequence);
  if (reply.IsError() || !reply.IsString()) {
    const std::string text(reply.text());
    return on_failure_(Error{text.starts_with("OOM") ? ENOMEM : EPROTO,
                             "semaphores (Redis key '" + semaphores_key_ + "'): " + text});
  }
  operation->answer(reply.text());
}

void Semaphores::IssueForError(std::string_view operation, uint64_t object,
                               const std::vector<std::string>& extra, ErrorCallback done, broker::Wake wake) {
  Issue(
      operation, object, extra,
      [this, done = std::move(done)](std::string_view result) {
        int error = 0;
        if (!Parse(result, &error))
          return on_failure_(Error{EPROTO, "semaphores: unexpected answer '" + std::string(result) + "'"});
        if (done) done(error);
      },
      wake);
}

std::string Semaphores::Grant(uint64_t object, uint64_t waiter) const {
  const std::vector<uint8_t> bytes = encode_grant_(object, waiter);
  return {bytes.begin(), bytes.end()};
}

void Semaphores::Create(uint64_t object, uint32_t value, ErrorCallback done) {
  IssueForError("create", object, {std::to_string(value)}, std::move(done));
}

void Semaphores::Destroy(uint64_t object, ErrorCallback done) {
  IssueForError("destroy", object, {}, std::move(done));
}

void Semaphores::Post(uint64_t object, ErrorCallback done) {
  IssueForError("post", object, {}, std::move(done));
}

void Semaphores::Wait(uint64_t object, uint64_t waiter, ErrorCallback done) {
  IssueForError("wait", object, {std::to_string(waiter), Grant(object, waiter)}, std::move(done),
                broker::Wake::kLater);
}

void Semaphores::TryWait(uint64_t object, uint64_t waiter, ErrorCallback done) {
  IssueForError("try", object, {std::to_string(waiter), Grant(object, waiter)}, std::move(done));
}

void Semaphores::Cancel(uint64_t object, uint64_t waiter, std::function<void(bool)> done) {
  Issue("cancel", object, {std::to_string(waiter)},
        [done = std::move(done)](std::string_view result) { done(result == "1"); });
}

void Semaphores::ForgetHost(HostId host, ErrorCallback done) {
  IssueForError("forget", 0, {std::to_string(host)}, std::move(done));
}

void Semaphores::GetValue(uint64_t object, std::function<void(int, int)> done) {
  connection_.Command({"HGET", semaphores_key_, "c" + ObjectText(object)},
                      [this, done = std::move(done)](const broker::Reply& reply) {
                        int64_t count = 0;
                        if (reply.IsNil()) return done(EINVAL, 0);
                        if (reply.IsError() || !Parse(reply.text(), &count))
                          return on_failure_(Error{EPROTO, "semaphores (Redis key '" + semaphores_key_ +
                                                               "'): " + std::string(reply.text())});
                        done(0, count < 0 ? 0 : static_cast<int>(count));
                      });
}

void Semaphores::Open(std::string_view name, int flags, uint32_t mode, uint32_t value, uint64_t new_object,
                      OpenCallback done) {
  std::vector<std::string> extra{std::string(name), (flags & O_CREAT) != 0 ? "1" : "0",
                                 (flags & O_EXCL) != 0 ? "1" : "0", std::to_string(mode),
                                 std::to_string(value)};
  Issue("open", new_object, extra, [this, done = std::move(done)](std::string_view result) {
    Named named;
    int error = 0;
    const bool opened = ParseNamed(result, &named);
    if (!opened && !Parse(result, &error))
      return on_failure_(Error{
          EPROTO, "semaphores (Redis key '" + names_key_ + "'): unexpected '" + std::string(result) + "'"});
    done(error, named);
  });
}

void Semaphores::Unlink(std::string_view name, ErrorCallback done) {
  IssueForError("unlink", 0, {std::string(name)}, std::move(done));
}

}  // namespace elsewhere::ipc

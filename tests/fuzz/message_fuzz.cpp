// Any bytes as a message between agents: refused with EPROTO, or a message that encodes to the same bytes
// again. `run` makes both lists, of the headers and of the messages in them.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "message_headers.inc"

namespace {

using namespace elsewhere::wire;

template <class M>
void Try(const Opened& opened, std::span<const uint8_t> blob) {
  if (opened.envelope.type != M::kType) return;
  const auto message = DecodeBody<M>(opened.body);
  if (!message) {
    if (message.error().code != EPROTO) std::abort();
    return;
  }
  const std::vector<uint8_t> again = Encode(opened.envelope.sender, opened.envelope.sequence, *message);
  if (!std::equal(again.begin(), again.end(), blob.begin(), blob.end())) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> blob(data, size);
  const auto opened = OpenEnvelope(blob);
  if (!opened) return 0;
#define MESSAGE(name) Try<name>(*opened, blob);
#include "messages.inc"
  return 0;
}

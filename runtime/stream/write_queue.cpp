#include "runtime/stream/write_queue.h"

#include <cerrno>
#include <climits>

namespace elsewhere::runtime::stream {

void WriteQueue::Push(wire::StreamId share, std::vector<uint8_t> bytes, std::vector<uint32_t> records,
                      std::vector<Descriptor> passed) {
  if (bytes.empty() && records.empty()) return;
  pieces_.push_back(Piece{share, std::move(bytes), std::move(records), std::move(passed)});
}

size_t WriteQueue::Drop(wire::StreamId share) {
  size_t dropped = 0;
  std::erase_if(pieces_, [&](const Piece& piece) {
    if (piece.share != share) return false;
    dropped += piece.bytes.size() - piece.done;
    return true;
  });
  return dropped;
}

std::vector<uint8_t> WriteQueue::TakeAll() {
  std::vector<uint8_t> all;
  for (const Piece& piece : pieces_)
    all.insert(all.end(), piece.bytes.begin() + static_cast<ptrdiff_t>(piece.done), piece.bytes.end());
  pieces_.clear();
  return all;
}

size_t WriteQueue::NextBatch(const Piece& piece, Borders borders) {
  if (borders == Borders::kNone || piece.record >= piece.records.size())
    return piece.bytes.size() - piece.done;
  const auto& records = piece.records;
  size_t next = piece.record;
  size_t batch = records[next++] - piece.torn;
  if (borders == Borders::kDatagram || piece.torn != 0) return batch;
  if (batch == PIPE_BUF) {
    while (next < records.size() && records[next] == PIPE_BUF) batch += records[next++];
  } else {
    while (next < records.size() && batch + records[next] <= PIPE_BUF) batch += records[next++];
  }
  return batch;
}

void WriteQueue::Advance(Piece& piece, size_t bytes) {
  piece.done += bytes;
  piece.torn += bytes;
  while (piece.record < piece.records.size() && piece.torn >= piece.records[piece.record]) {
    piece.torn -= piece.records[piece.record++];
  }
}

Result<bool> WriteQueue::Flush(Borders borders, const Write& write, const Written& written) {
  while (!pieces_.empty()) {
    Piece& piece = pieces_.front();
    const size_t batch = NextBatch(piece, borders);
    const auto result = write(std::span(piece.bytes).subspan(piece.done, batch), piece.passed);
    if (!result) {
      if (result.error().code == EINTR) continue;
      if (result.error().code == EAGAIN) return false;
      return result.error();
    }
    piece.passed.clear();
    const auto share = piece.share;
    if (borders == Borders::kDatagram) {  // goes whole or not at all, an empty one too
      piece.done += batch;
      ++piece.record;
    } else {
      Advance(piece, *result);
    }
    if (piece.done == piece.bytes.size() && piece.record >= piece.records.size()) pieces_.pop_front();
    written(share, *result);
  }
  return true;
}

}  // namespace elsewhere::runtime::stream

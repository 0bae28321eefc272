#include "artifact.h"

#include <cmath>

#include "bytes.h"
#include "error.h"

namespace dualmode {
namespace {

constexpr size_t kHeaderBytes = 64;
constexpr size_t kTensorBytes = 32;
constexpr size_t kAlignment = 64;
constexpr size_t kSettingsBytes[] = {4 * 26, 4 * 27};  // of versions 1 and 2
constexpr uint64_t kMaxStateBytes = 256u << 20;

struct Range {
  const uint8_t* bytes;
  size_t size;
};

Range range_of(const uint8_t* file, size_t size, uint64_t offset, uint64_t length,
               const char* what) {
  if (offset > size || length > size - offset) {
    bad_artifact(std::string(what) + " extends beyond the end of the file");
  }
  return {file + offset, static_cast<size_t>(length)};
}

Settings read_settings(Range range, uint32_t version) {
  if (range.size != kSettingsBytes[version - 1]) bad_artifact("the settings have a wrong size");
  const uint8_t* at = range.bytes;
  const auto integer = [&at] { return at += 4, read_u32(at - 4); };
  const auto real = [&at] { return at += 4, read_f32(at - 4); };
  Settings s{};
  for (uint32_t* field :
       {&s.width, &s.layers, &s.heads, &s.feed_forward, &s.kernel_frames, &s.subsampling_channels,
        &s.predictor_width, &s.context_tokens, &s.joiner_width, &s.vocabulary, &s.streams,
        &s.chunk, &s.left, &s.lookahead, &s.sample_rate_hz, &s.frame_shift, &s.frame_length,
        &s.fft_length, &s.mels}) {
    *field = integer();
  }
  for (float* field : {&s.low_hz, &s.high_hz, &s.preemphasis, &s.blank_penalty, &s.sparsity,
                       &s.tail_s, &s.longest_piece_s}) {
    *field = real();
  }
  s.frame_ms = version == 1 ? 40 : integer();
  return s;
}

void check_size(const char* name, uint32_t value, uint32_t smallest, uint32_t largest) {
  if (value < smallest || value > largest) {
    bad_artifact(std::string(name) + " is " + std::to_string(value) + ", not " +
                 std::to_string(smallest) + " to " + std::to_string(largest));
  }
}

void check_real(const char* name, float value, float smallest, float largest) {
  if (!(value >= smallest && value <= largest)) {
    bad_artifact(std::string(name) + " is out of range");
  }
}

void check_settings(const Settings& s) {
  check_size("width", s.width, 8, 8192);
  check_size("layers", s.layers, 1, 256);
  check_size("heads", s.heads, 1, 256);
  check_size("feed_forward", s.feed_forward, 8, 32768);
  check_size("kernel_frames", s.kernel_frames, 1, 255);
  check_size("subsampling_channels", s.subsampling_channels, 1, 512);
  check_size("predictor_width", s.predictor_width, 8, 8192);
  check_size("context_tokens", s.context_tokens, 1, 7);
  check_size("joiner_width", s.joiner_width, 8, 8192);
  check_size("vocabulary", s.vocabulary, 2, 65535);
  check_size("streams", s.streams, 0, 1);
  check_size("chunk", s.chunk, s.streams, s.streams ? 1024 : 0);
  check_size("left", s.left, 0, s.streams ? 4096 : 0);
  check_size("lookahead", s.lookahead, 0, s.streams ? 1024 : 0);
  if (s.frame_ms != 40 && s.frame_ms != 80) {
    throw Error(DUALMODE_UNSUPPORTED, "frames last " + std::to_string(s.frame_ms) +
                                          " ms, this engine supports 40 and 80 ms");
  }
  if (s.width % (2 * s.heads) != 0) bad_artifact("width is not a multiple of 2 heads");
  if (s.kernel_frames % 2 == 0) bad_artifact("kernel_frames is even");
  check_real("blank_penalty", s.blank_penalty, -100.0f, 100.0f);
  check_real("sparsity", s.sparsity, 0.0f, 1.0f);
  check_real("tail_s", s.tail_s, 0.0f, 10.0f);
  check_real("longest_piece_s", s.longest_piece_s, 2.0f, 60.0f);
  const uint64_t state = uint64_t{s.layers} * s.width * 4 * (2 * uint64_t{s.left} + s.reach());
  const uint64_t workspace = uint64_t{s.window()} * 4 *
                             (uint64_t{s.feed_forward} + 12 * uint64_t{s.width} +
                              3 * uint64_t{s.subsampling_channels} * s.mels * (s.frame_ms / 40));
  if (state > kMaxStateBytes || workspace > kMaxStateBytes) {
    bad_artifact("a stream would need too much memory");
  }
  const bool known = s.sample_rate_hz == 16000 && s.frame_shift == 160 && s.frame_length == 400 &&
                     s.fft_length == 512 && s.mels == 80 && s.low_hz == 20.0f &&
                     s.high_hz == 7600.0f && s.preemphasis == 0.97f;
  if (!known) throw Error(DUALMODE_UNSUPPORTED, "this engine does not support these features");
}

std::vector<std::string> read_pieces(Range range, uint32_t count) {
  if (range.size < 2 * size_t{count}) bad_artifact("the token pieces end too early");
  std::vector<std::string> pieces;
  pieces.reserve(count);
  size_t at = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (range.size - at < 2) bad_artifact("the token pieces end too early");
    const size_t length = read_u16(range.bytes + at);
    at += 2;
    if (range.size - at < length) bad_artifact("the token pieces end too early");
    pieces.emplace_back(reinterpret_cast<const char*>(range.bytes + at), length);
    if (pieces.back().find('\0') != std::string::npos) bad_artifact("a zero in a token piece");
    at += length;
  }
  if (at != range.size) bad_artifact("the token pieces are longer than the vocabulary");
  return pieces;
}

Tensor read_tensor(const uint8_t* entry, const uint8_t* file, size_t size) {
  Tensor t{};
  t.role = static_cast<Role>(read_u16(entry));
  t.layer = read_u16(entry + 2);
  t.encoding = static_cast<Encoding>(read_u16(entry + 4));
  t.block = static_cast<Block>(read_u16(entry + 6));
  t.rows = read_u32(entry + 8);
  t.columns = read_u32(entry + 12);
  const uint64_t offset = read_u64(entry + 16);
  const Range range = range_of(file, size, offset, read_u64(entry + 24), "a tensor");
  if (offset % kAlignment != 0) bad_artifact("a tensor is not aligned");
  t.bytes = range.bytes;
  t.size = range.size;
  return t;
}

}  // namespace

Artifact Artifact::parse(const uint8_t* bytes, size_t size) {
  if (size < kHeaderBytes || std::memcmp(bytes, "DUALMODE", 8) != 0) {
    bad_artifact("this is not a dualmode artifact");
  }
  const uint32_t version = read_u32(bytes + 8);
  if (version < 1 || version > kNewestVersion) {
    throw Error(DUALMODE_UNSUPPORTED, "the artifact has format version " +
                                          std::to_string(version) +
                                          ", this engine reads versions 1 and 2");
  }
  if (read_u64(bytes + 16) != size) bad_artifact("the length in the header is wrong");
  if (read_u32(bytes + 12) != crc32(bytes + 16, size - 16)) {
    bad_artifact("the checksum does not match");
  }
  const auto part = [&](size_t field, const char* what) {
    return range_of(bytes, size, read_u32(bytes + field), read_u32(bytes + field + 4), what);
  };
  Artifact artifact;
  artifact.size = size;
  artifact.version = version;
  artifact.settings = read_settings(part(24, "the settings"), version);
  check_settings(artifact.settings);
  artifact.pieces = read_pieces(part(32, "the token pieces"), artifact.settings.vocabulary);
  const Range card = part(40, "the card");
  artifact.card.assign(reinterpret_cast<const char*>(card.bytes), card.size);
  if (artifact.card.find('\0') != std::string::npos) bad_artifact("the card contains a zero");
  const uint64_t count = read_u32(bytes + 52);
  const Range table =
      range_of(bytes, size, read_u32(bytes + 48), count * kTensorBytes, "the table of tensors");
  artifact.tensors_.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    artifact.tensors_.push_back(read_tensor(table.bytes + i * kTensorBytes, bytes, size));
  }
  return artifact;
}

const Tensor& Artifact::tensor(Role role, uint16_t layer, uint32_t rows, uint32_t columns) const {
  for (const Tensor& t : tensors_) {
    if (t.role != role || t.layer != layer) continue;
    if (t.rows != rows || t.columns != columns) {
      bad_artifact("tensor " + std::to_string(static_cast<int>(role)) + " of layer " +
                   std::to_string(layer) + " has sizes that do not match the settings");
    }
    return t;
  }
  bad_artifact("tensor " + std::to_string(static_cast<int>(role)) + " of layer " +
               std::to_string(layer) + " is missing");
}

}  // namespace dualmode

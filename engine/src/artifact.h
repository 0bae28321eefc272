// The artifact: a recogniser in one little-endian file, defined in docs/formats/engine_artifact.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dualmode {

constexpr uint32_t kNewestVersion = 2;  // of the format; older ones can be read

// The role of a tensor, with the numbers used in the file.
enum class Role : uint16_t {
  kMean = 1,
  kDeviation = 2,
  kFirstConvolution = 3,
  kFirstConvolutionBias = 4,
  kSecondConvolution = 5,
  kSubsamplingOut = 6,
  kThirdConvolution = 7,  // of frames of 80 ms
  kFirstNorm = 16,
  kFirstExpand = 17,
  kFirstContract = 18,
  kAttentionNorm = 19,
  kProject = 20,
  kAttentionOut = 21,
  kConvolutionNorm = 22,
  kGate = 23,
  kDepthwise = 24,
  kDepthwiseBias = 25,
  kConvolutionOut = 26,
  kSecondNorm = 27,
  kSecondExpand = 28,
  kSecondContract = 29,
  kFinalNorm = 48,
  kFromFrames = 49,
  kEmbedding = 50,
  kMix = 51,
  kFromPredictions = 52,
  kOut = 53,
};

enum class Encoding : uint16_t {
  kValuesF32 = 1,
  kValuesF16 = 2,
  kRowsI8 = 3,
  kMatrixF32 = 4,
  kMatrixI8 = 5,
};

// Outputs x inputs of a block, which is kept or pruned as a whole.
enum class Block : uint16_t { kDense = 0, k8x1 = 1, k8x4 = 2, k16x1 = 3 };

struct Settings {
  uint32_t width, layers, heads, feed_forward, kernel_frames, subsampling_channels;
  uint32_t predictor_width, context_tokens, joiner_width, vocabulary;
  uint32_t streams, chunk, left, lookahead;
  uint32_t sample_rate_hz, frame_shift, frame_length, fft_length, mels;
  float low_hz, high_hz, preemphasis;
  float blank_penalty, sparsity, tail_s, longest_piece_s;
  uint32_t frame_ms;  // 40 in version 1

  uint32_t window() const { return chunk + lookahead; }
  uint32_t reach() const { return (kernel_frames - 1) / 2; }
  uint32_t head_width() const { return width / heads; }
  double frame_s() const { return frame_ms / 1000.0; }
  size_t frame_samples() const { return size_t{frame_ms} * 16; }
  // Frame t reads 2 stride - 1 mel frames from stride * t on.
  size_t stride_mels() const { return frame_ms / 10; }
  size_t overlap_mels() const { return stride_mels() - 1; }
  size_t frames(size_t mel_rows) const {
    return mel_rows < overlap_mels() ? 0 : (mel_rows - overlap_mels()) / stride_mels();
  }
  // Values of a frame of 40 ms before the third convolution; 0 without one.
  size_t early_values() const {
    return frame_ms == 80 ? size_t{subsampling_channels} * ((mels - 3) / 4) : 0;
  }
  // Each convolution halves bins as it halves mel frames.
  uint32_t subsampled_mels() const { return static_cast<uint32_t>(frames(mels)); }
};

struct Tensor {
  Role role;
  uint16_t layer;
  Encoding encoding;
  Block block;
  uint32_t rows, columns;
  const uint8_t* bytes;
  size_t size;
};

// A parsed artifact: views into bytes that the caller keeps alive.
class Artifact {
 public:
  // Checks everything that does not depend on the meaning of tensors. Throws Error.
  static Artifact parse(const uint8_t* bytes, size_t size);

  // The tensor of a role. Throws Error if it is missing or its sizes do not match the settings.
  const Tensor& tensor(Role role, uint16_t layer, uint32_t rows, uint32_t columns) const;

  uint32_t version = 0;
  Settings settings{};
  std::vector<std::string> pieces;
  std::string card;
  size_t size = 0;

 private:
  std::vector<Tensor> tensors_;
};

}  // namespace dualmode

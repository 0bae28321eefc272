#include "model.h"

#include <cmath>

#include "bytes.h"
#include "error.h"

namespace dualmode {
namespace {

// Reads a payload sequentially, and checks that it is long enough.
class Payload {
 public:
  explicit Payload(const Tensor& tensor) : at_(tensor.bytes), left_(tensor.size) {}

  const uint8_t* take(size_t count) {
    if (count > left_) bad_artifact("a tensor is shorter than its sizes require");
    left_ -= count;
    return (at_ += count) - count;
  }

  void align(size_t taken) { take(round_up(taken, 64) - taken); }

  size_t left() const { return left_; }

  void end() const {
    if (left_ != 0) bad_artifact("a tensor is longer than its sizes require");
  }

 private:
  const uint8_t* at_;
  size_t left_;
};

float finite(float value) {
  if (!std::isfinite(value)) bad_artifact("a weight is NaN or infinite");
  return value;
}

std::vector<float> read_floats(Payload& payload, size_t count, size_t padded, bool half) {
  const uint8_t* bytes = payload.take(count * (half ? 2 : 4));
  std::vector<float> values(padded);
  for (size_t i = 0; i < count; ++i) {
    values[i] = finite(half ? read_f16(bytes + 2 * i) : read_f32(bytes + 4 * i));
  }
  return values;
}

std::vector<float> values_of(const Tensor& t) {
  if (t.encoding != Encoding::kValuesF32 && t.encoding != Encoding::kValuesF16) {
    bad_artifact("a tensor of values has another encoding");
  }
  Payload payload(t);
  const size_t count = size_t{t.rows} * t.columns;
  auto values = read_floats(payload, count, count, t.encoding == Encoding::kValuesF16);
  payload.end();
  return values;
}

struct BlockSize {
  uint32_t outputs, inputs;
};

BlockSize size_of(Block block) {
  switch (block) {
    case Block::kDense: return {8, 4};
    case Block::k8x1: return {8, 1};
    case Block::k8x4: return {8, 4};
    case Block::k16x1: return {16, 1};
  }
  bad_artifact("a matrix has unknown blocks");
}

size_t count_ones(const uint8_t* bytes, size_t count) {
  size_t ones = 0;
  for (size_t i = 0; i < count; ++i) {
    for (unsigned bits = bytes[i]; bits != 0; bits &= bits - 1) ++ones;
  }
  return ones;
}

// List the columns that each group of outputs keeps, padded to `multiple` by repeating one.
void list_columns(Matrix& m, const uint8_t* bitmap, BlockSize block, uint32_t multiple) {
  const size_t groups = (m.outputs + block.outputs - 1) / block.outputs;
  const size_t across = (m.inputs + block.inputs - 1) / block.inputs;
  const size_t row_bytes = (across + 7) / 8;
  m.group = block.outputs;
  m.begin.reserve(groups + 1);
  m.begin.push_back(0);
  for (size_t g = 0; g < groups; ++g) {
    for (size_t c = 0; c < across; ++c) {
      const bool kept = bitmap == nullptr || (bitmap[g * row_bytes + c / 8] >> (c % 8) & 1) != 0;
      for (uint32_t i = 0; kept && i < block.inputs; ++i) {
        const size_t column = c * block.inputs + i;
        m.columns.push_back(static_cast<uint16_t>(column < m.inputs ? column : m.inputs - 1));
      }
    }
    while (m.columns.size() % multiple != 0) m.columns.push_back(m.columns.back());
    m.begin.push_back(static_cast<uint32_t>(m.columns.size() / multiple));
  }
  m.columns.shrink_to_fit();
}

void sum_weights(Matrix& m) {
  m.weight_sums.assign(m.groups() * m.group, 0);
  for (size_t g = 0; g < m.groups(); ++g) {
    for (size_t q = m.begin[g]; q < m.begin[g + 1]; ++q) {
      for (size_t i = 0; i < size_t{m.group} * 4; ++i) {
        m.weight_sums[g * m.group + i / 4] += m.quads[q * m.group * 4 + i];
      }
    }
  }
}

Matrix matrix_of(const Tensor& t, bool sums) {
  const bool int8 = t.encoding == Encoding::kMatrixI8;
  if (!int8 && t.encoding != Encoding::kMatrixF32) {
    bad_artifact("a matrix has another encoding");
  }
  BlockSize block = size_of(t.block);
  if (!int8) {
    if (block.outputs != 8) bad_artifact("a matrix of floats has blocks of 16 outputs");
    if (t.block == Block::kDense) block.inputs = 1;
    if (block.inputs != 1) bad_artifact("a matrix of floats has blocks of 4 inputs");
  }
  Matrix m;
  m.outputs = t.rows;
  m.inputs = t.columns;
  if (t.columns > 65535) bad_artifact("a matrix has too many inputs");
  const size_t groups = (size_t{t.rows} + block.outputs - 1) / block.outputs;
  Payload payload(t);
  size_t taken = 0;
  if (int8) {
    m.scale = read_floats(payload, t.rows, groups * block.outputs, true);
    taken += 2 * size_t{t.rows};
  }
  m.bias = read_floats(payload, t.rows, groups * block.outputs, int8);
  taken += (int8 ? 2 : 4) * size_t{t.rows};
  payload.align(taken);
  const uint8_t* bitmap = nullptr;
  if (t.block != Block::kDense) {
    const size_t across = (size_t{t.columns} + block.inputs - 1) / block.inputs;
    const size_t bytes = groups * ((across + 7) / 8);
    bitmap = payload.take(bytes);
    payload.align(bytes);
    const size_t weights = count_ones(bitmap, bytes) * block.outputs * block.inputs;
    if (weights * (int8 ? 1 : 4) > payload.left()) {
      bad_artifact("a matrix keeps more blocks than it has weights for");
    }
  } else if (size_t{t.rows} * t.columns > 2 * t.size) {
    bad_artifact("a dense matrix is shorter than its sizes require");
  }
  list_columns(m, bitmap, block, int8 ? 4 : 1);
  const size_t units = m.begin.back();
  if (int8) {
    m.quads = reinterpret_cast<const int8_t*>(payload.take(units * m.group * 4));
    if (sums) sum_weights(m);
  } else {
    const uint8_t* floats = payload.take(units * 32);
    for (size_t i = 0; i < units * 8; ++i) finite(read_f32(floats + i * 4));
    m.floats = reinterpret_cast<const float*>(floats);
  }
  payload.end();
  return m;
}

Embedding embedding_of(const Tensor& t) {
  Embedding embedding;
  if (t.encoding != Encoding::kRowsI8) {
    embedding.floats = values_of(t);
    return embedding;
  }
  Payload payload(t);
  embedding.scale = read_floats(payload, t.rows, t.rows, true);
  payload.align(2 * size_t{t.rows});
  embedding.rows = reinterpret_cast<const int8_t*>(payload.take(size_t{t.rows} * t.columns));
  payload.end();
  return embedding;
}

Norm norm_of(const Tensor& t) {
  const auto values = values_of(t);
  const auto middle = values.begin() + t.columns;
  return {{values.begin(), middle}, {middle, values.end()}};
}

}  // namespace

Model::Model(Artifact parsed, const char* kernel_name, std::shared_ptr<const Mapping> mapped)
    : artifact(std::move(parsed)),
      kernels(choose_kernels(kernel_name)),
      mapping(std::move(mapped)) {
  const Settings& s = settings;
  const auto values = [&](Role role, uint16_t layer, uint32_t rows, uint32_t columns) {
    return values_of(artifact.tensor(role, layer, rows, columns));
  };
  const auto norm = [&](Role role, uint16_t layer) {
    return norm_of(artifact.tensor(role, layer, 2, s.width));
  };
  const auto matrix = [&](Role role, uint16_t layer, uint32_t outputs, uint32_t inputs) {
    return matrix_of(artifact.tensor(role, layer, outputs, inputs), kernels.offsets);
  };
  for (const std::string& piece : artifact.pieces) {
    word_starts.push_back(piece.rfind("\xe2\x96\x81", 0) == 0);
  }
  const size_t half = s.head_width() / 2;
  for (size_t i = 0; i < half; ++i) {
    turns.push_back(std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)));
    turn_cosines.push_back(std::cos(turns[i]));
    turn_sines.push_back(std::sin(turns[i]));
  }
  mean = values(Role::kMean, 0, 1, s.mels);
  inverse_deviation = values(Role::kDeviation, 0, 1, s.mels);
  for (float& value : inverse_deviation) value = finite(1.0f / value);
  const uint32_t channels = s.subsampling_channels, bins = (s.mels - 3) / 2 + 1;
  first_convolution = values(Role::kFirstConvolution, 0, channels, 9);
  first_convolution_bias = values(Role::kFirstConvolutionBias, 0, 1, channels);
  if (3 * channels * bins > 65535) bad_artifact("the subsampling has too many channels");
  const auto convolution = [&](Role role, uint32_t input_bins) {
    Matrix found = matrix(role, 0, channels, 9 * channels);
    for (uint16_t& column : found.columns) {
      // (channel, time, bin) of the kernel -> row (time, channel, bin) of the planes.
      const uint32_t channel = column / 9, time = column % 9 / 3, bin = column % 3;
      column = static_cast<uint16_t>((time * channels + channel) * input_bins + bin);
    }
    return found;
  };
  second_convolution = convolution(Role::kSecondConvolution, bins);
  if (s.frame_ms == 80) {
    third_convolution = convolution(Role::kThirdConvolution, (bins - 3) / 2 + 1);
  }
  subsampling_out = matrix(Role::kSubsamplingOut, 0, s.width, channels * s.subsampled_mels());
  for (uint16_t i = 0; i < s.layers; ++i) {
    layers.emplace_back();
    LayerWeights& layer = layers.back();
    layer.first_norm = norm(Role::kFirstNorm, i);
    layer.first_expand = matrix(Role::kFirstExpand, i, s.feed_forward, s.width);
    layer.first_contract = matrix(Role::kFirstContract, i, s.width, s.feed_forward);
    layer.attention_norm = norm(Role::kAttentionNorm, i);
    layer.project = matrix(Role::kProject, i, 3 * s.width, s.width);
    layer.attention_out = matrix(Role::kAttentionOut, i, s.width, s.width);
    layer.convolution_norm = norm(Role::kConvolutionNorm, i);
    layer.gate = matrix(Role::kGate, i, 2 * s.width, s.width);
    layer.depthwise = values(Role::kDepthwise, i, s.width, s.kernel_frames);
    layer.depthwise_bias = values(Role::kDepthwiseBias, i, 1, s.width);
    layer.convolution_out = matrix(Role::kConvolutionOut, i, s.width, s.width);
    layer.second_norm = norm(Role::kSecondNorm, i);
    layer.second_expand = matrix(Role::kSecondExpand, i, s.feed_forward, s.width);
    layer.second_contract = matrix(Role::kSecondContract, i, s.width, s.feed_forward);
  }
  final_norm = norm(Role::kFinalNorm, 0);
  from_frames = matrix(Role::kFromFrames, 0, s.joiner_width, s.width);
  embedding = embedding_of(artifact.tensor(Role::kEmbedding, 0, s.vocabulary, s.predictor_width));
  mix = matrix(Role::kMix, 0, s.predictor_width, s.context_tokens * s.predictor_width);
  from_predictions = matrix(Role::kFromPredictions, 0, s.joiner_width, s.predictor_width);
  out = matrix(Role::kOut, 0, s.vocabulary, s.joiner_width);
  // Weights in int8 lose far more than this. With fp32 weights, streams equal Python's exactly.
  half_state = layers.front().project.int8();
}

}  // namespace dualmode

// The operations of the engine, as one table of functions for each kind of processor.
//
// Activations are stored channel by channel with frames as lanes: row r of a map of S lanes begins
// at x + r * S. All operations are vertical, without interaction of lanes, except attention and the
// depthwise convolution. S is a multiple of kLanes; lanes without a frame have finite values that
// are not used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dualmode {

constexpr size_t kLanes = 8;
constexpr size_t kSlackBytes = 128;  // kernels may read this far beyond the end of activations

// A linear map in blocks. Rows form groups of `group` outputs; a group lists the columns that it
// keeps. In int8 four columns form a quad with weights [group][4], padded with zeros.
struct Matrix {
  uint32_t outputs = 0, inputs = 0;
  uint32_t group = 8;
  std::vector<uint32_t> begin;    // groups + 1: first quad (int8) or first column (fp32)
  std::vector<uint16_t> columns;  // 4 of each quad, or 1 of each column
  const int8_t* quads = nullptr;
  const float* floats = nullptr;     // [column][8]
  std::vector<float> scale, bias;    // padded to whole groups
  std::vector<int32_t> weight_sums;  // of each output, for kernels that offset activations

  size_t groups() const { return begin.size() - 1; }
  bool int8() const { return quads != nullptr; }
};

enum class Finish { kStore, kRelu, kSilu, kAdd };

// y[o][lane] = finish(sum over columns, scaled, plus bias).
struct Product {
  const Matrix* matrix;
  const void* x;             // activations: float (fp32), or what `quantize` wrote (int8)
  size_t stride;             // lanes between two rows of x
  size_t lanes;              // to compute, a multiple of kLanes
  const float* frame_scale;  // of each lane; int8 only
  float* y;
  size_t y_stride;
  Finish finish;
  float factor;  // kAdd: y += factor * value
  size_t window = 0;  // lanes of a window if its last four are unused, else 0
};

// One head of attention for the lanes of one window.
struct Attention {
  const float* query;  // (head width, stride): rotated
  size_t stride, lanes, head_width;
  const float* const* keys;  // `count` rows; this head's part begins at `offset`
  const float* const* values;
  size_t count, offset;
  float* scores;  // room for count * 24 floats
  float* y;       // (head width, y_stride)
  size_t y_stride;
};

struct Kernels {
  const char* name;
  size_t activation_bytes;  // size of a quantised value
  bool offsets;             // whether int8 products need Matrix::weight_sums

  void (*product_int8)(const Product& product);
  void (*product_fp32)(const Product& product);
  // Quantise (rows, stride) floats to -127..127 with one scale per lane.
  void (*quantize)(const float* x, size_t rows, size_t stride, size_t lanes, void* q,
                   float* frame_scale);
  // LayerNorm over rows; y has the stride of x.
  void (*norm)(const float* x, size_t rows, size_t stride, size_t lanes, const float* gain,
               const float* bias, float* y);
  // Gated linear unit: y[r] = x[r] * sigmoid(x[rows + r]).
  void (*gate)(const float* x, size_t rows, size_t stride, size_t lanes, float* y,
               size_t y_stride);
  // y[r][t] = silu(bias[r] + sum over k of weight[r][k] * x[r][t + k]).
  void (*depthwise)(const float* x, size_t rows, size_t x_stride, size_t lanes, const float* weight,
                    size_t kernel, const float* bias, float* y, size_t y_stride);
  // Rotate rows i and i + half of one head by angles given as cosines and sines (half, stride).
  void (*rotate)(float* x, size_t half, size_t stride, size_t lanes, const float* cosines,
                 const float* sines);
  void (*attend)(const Attention& attention);
  // First convolution of the subsampling for one bin: y[c] = relu(bias + sum of 9 rows).
  void (*convolve9)(const float* const* x, size_t channels, size_t lanes, const float* weight,
                    const float* bias, float* y, size_t y_stride);
  // y = tanh(x + shift[r]).
  void (*tanh_sum)(const float* x, size_t rows, size_t stride, size_t lanes, const float* shift,
                   float* y, size_t y_stride);
  // Floats to IEEE 754 binary16, rounded to the nearest and limited to its range, and back.
  void (*narrow)(const float* x, size_t count, uint16_t* halves);
  void (*widen)(const uint16_t* halves, size_t count, float* x);
};

// The table of a name, or the best of this processor for "". Throws Error.
const Kernels& choose_kernels(const char* name);
// Names that `choose_kernels` accepts on this processor, best first, separated by spaces.
const char* kernel_names();

}  // namespace dualmode

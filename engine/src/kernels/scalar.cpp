// The reference: plain loops that define every kernel. The others are tested against these, and
// processors without their own table use them.
#include <algorithm>
#include <cmath>

#include "bytes.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"

namespace dualmode {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void finish(const Product& p, size_t output, size_t lane, float value) {
  float& y = p.y[output * p.y_stride + lane];
  switch (p.finish) {
    case Finish::kStore: y = value; break;
    case Finish::kRelu: y = std::max(0.0f, value); break;
    case Finish::kSilu: y = value * sigmoid(value); break;
    case Finish::kAdd: y += p.factor * value; break;
  }
}

void product_int8(const Product& p) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const int16_t*>(p.x);
  for (size_t o = 0; o < m.outputs; ++o) {
    const size_t group = o / m.group, row = o % m.group;
    for (size_t lane = 0; lane < p.lanes; ++lane) {
      int32_t sum = 0;
      for (size_t q = m.begin[group]; q < m.begin[group + 1]; ++q) {
        const int8_t* w = m.quads + (q * m.group + row) * 4;
        const uint16_t* c = &m.columns[q * 4];
        for (size_t k = 0; k < 4; ++k) sum += w[k] * x[c[k] * p.stride + lane];
      }
      finish(p, o, lane, static_cast<float>(sum) * (m.scale[o] * p.frame_scale[lane]) + m.bias[o]);
    }
  }
}

void product_fp32(const Product& p) {
  const Matrix& m = *p.matrix;
  const auto* x = static_cast<const float*>(p.x);
  for (size_t o = 0; o < m.outputs; ++o) {
    const size_t group = o / 8, row = o % 8;
    for (size_t lane = 0; lane < p.lanes; ++lane) {
      float sum = 0.0f;
      for (size_t c = m.begin[group]; c < m.begin[group + 1]; ++c) {
        sum += m.floats[c * 8 + row] * x[m.columns[c] * p.stride + lane];
      }
      finish(p, o, lane, sum + m.bias[o]);
    }
  }
}

void quantize(const float* x, size_t rows, size_t stride, size_t lanes, void* out,
              float* frame_scale) {
  auto* q = static_cast<int16_t*>(out);
  for (size_t lane = 0; lane < lanes; ++lane) {
    float largest = 0.0f;
    for (size_t r = 0; r < rows; ++r) largest = std::max(largest, std::fabs(x[r * stride + lane]));
    const float inverse = largest > 1e-30f ? 127.0f / largest : 0.0f;
    frame_scale[lane] = largest / 127.0f;
    for (size_t r = 0; r < rows; ++r) {
      q[r * stride + lane] = static_cast<int16_t>(std::nearbyint(x[r * stride + lane] * inverse));
    }
  }
}

void norm(const float* x, size_t rows, size_t stride, size_t lanes, const float* gain,
          const float* bias, float* y) {
  for (size_t lane = 0; lane < lanes; ++lane) {
    float mean = 0.0f, variance = 0.0f;
    for (size_t r = 0; r < rows; ++r) mean += x[r * stride + lane];
    mean /= static_cast<float>(rows);
    for (size_t r = 0; r < rows; ++r) {
      const float centred = x[r * stride + lane] - mean;
      variance += centred * centred;
    }
    variance /= static_cast<float>(rows);
    const float inverse = 1.0f / std::sqrt(variance + 1e-5f);
    for (size_t r = 0; r < rows; ++r) {
      y[r * stride + lane] = (x[r * stride + lane] - mean) * inverse * gain[r] + bias[r];
    }
  }
}

void gate(const float* x, size_t rows, size_t stride, size_t lanes, float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      y[r * y_stride + lane] = x[r * stride + lane] * sigmoid(x[(rows + r) * stride + lane]);
    }
  }
}

void depthwise(const float* x, size_t rows, size_t x_stride, size_t lanes, const float* weight,
               size_t kernel, const float* bias, float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      float sum = bias[r];
      for (size_t k = 0; k < kernel; ++k) sum += weight[r * kernel + k] * x[r * x_stride + lane + k];
      y[r * y_stride + lane] = sum * sigmoid(sum);
    }
  }
}

void rotate(float* x, size_t half, size_t stride, size_t lanes, const float* cosines,
            const float* sines) {
  for (size_t i = 0; i < half; ++i) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      const float a = x[i * stride + lane], b = x[(half + i) * stride + lane];
      const float c = cosines[i * stride + lane], s = sines[i * stride + lane];
      x[i * stride + lane] = a * c - b * s;
      x[(half + i) * stride + lane] = b * c + a * s;
    }
  }
}

void attend(const Attention& a) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(a.head_width));
  for (size_t lane = 0; lane < a.lanes; ++lane) {
    float largest = -INFINITY, total = 0.0f;
    for (size_t j = 0; j < a.count; ++j) {
      float score = 0.0f;
      for (size_t d = 0; d < a.head_width; ++d) {
        score += a.query[d * a.stride + lane] * a.keys[j][a.offset + d];
      }
      a.scores[j] = score * scale;
      largest = std::max(largest, a.scores[j]);
    }
    for (size_t j = 0; j < a.count; ++j) {
      a.scores[j] = std::exp(a.scores[j] - largest);
      total += a.scores[j];
    }
    for (size_t d = 0; d < a.head_width; ++d) {
      float sum = 0.0f;
      for (size_t j = 0; j < a.count; ++j) sum += a.scores[j] * a.values[j][a.offset + d];
      a.y[d * a.y_stride + lane] = sum / total;
    }
  }
}

void convolve9(const float* const* x, size_t channels, size_t lanes, const float* weight,
               const float* bias, float* y, size_t y_stride) {
  for (size_t c = 0; c < channels; ++c) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      float sum = bias[c];
      for (size_t k = 0; k < 9; ++k) sum += weight[c * 9 + k] * x[k][lane];
      y[c * y_stride + lane] = std::max(0.0f, sum);
    }
  }
}

void tanh_sum(const float* x, size_t rows, size_t stride, size_t lanes, const float* shift,
              float* y, size_t y_stride) {
  for (size_t r = 0; r < rows; ++r) {
    for (size_t lane = 0; lane < lanes; ++lane) {
      y[r * y_stride + lane] = std::tanh(x[r * stride + lane] + shift[r]);
    }
  }
}

// The halves of an exponent are multiples of 2^(exponent - 11), for frexp's exponents; all below
// the smallest normal number, 2^-14, are multiples of 2^-24.
uint16_t half_of(float x) {
  const float size = std::min(std::fabs(x), 65504.0f);
  int exponent = -13;
  if (size > 0.0f) std::frexp(size, &exponent);
  exponent = std::max(exponent, -13);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(size, 11 - exponent)));
  const int half = (exponent + 13) * 1024 + steps;  // steps may carry into the exponent
  return static_cast<uint16_t>(half | (std::signbit(x) ? 0x8000 : 0));
}

void narrow(const float* x, size_t count, uint16_t* halves) {
  for (size_t i = 0; i < count; ++i) halves[i] = half_of(x[i]);
}

void widen(const uint16_t* halves, size_t count, float* x) {
  for (size_t i = 0; i < count; ++i) x[i] = float_of_half(halves[i]);
}

}  // namespace

const Kernels kScalarKernels = {
    "scalar", 2,         false,  product_int8, product_fp32, quantize,  norm,
    gate,     depthwise, rotate, attend,       convolve9,    tanh_sum,
    narrow, widen,
};

}  // namespace dualmode

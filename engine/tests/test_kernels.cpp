// All kernels that this processor supports give the results of the scalar ones.
#include <sstream>

#include "check.h"
#include "kernels/kernels.h"
#include "kernels/tables.h"
#include "products.h"
#include "trapped_vnni.h"

using namespace dualmode;

namespace {

// A random matrix in quads (int8) or columns (fp32); one group has no columns.
Weights random_matrix(Random& random, uint32_t outputs, uint32_t inputs, uint32_t group,
                      uint32_t run, bool int8) {
  Columns kept((outputs + group - 1) / group);
  for (size_t g = 0; g < kept.size(); ++g) {
    for (uint32_t c = 0; c + run <= inputs; c += run) {
      if (g == 1 || random.below(3) != 0) continue;
      for (uint32_t i = 0; i < run; ++i) kept[g].push_back(static_cast<uint16_t>(c + i));
    }
  }
  return matrix_of(random, outputs, inputs, group, kept, int8);
}

void same(const std::vector<float>& a, const std::vector<float>& b, float tolerance) {
  CHECK(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(std::fabs(a[i] - b[i]) <= tolerance * (1.0f + std::fabs(b[i])));
  }
}

std::vector<float> product(const Kernels& k, const Matrix& m, const std::vector<float>& x,
                           size_t stride, size_t lanes, Finish finish, size_t window = 0) {
  std::vector<float> y(m.outputs * stride, 0.25f), scale(stride);
  if (!m.int8()) {
    k.product_fp32({&m, x.data(), stride, lanes, nullptr, y.data(), stride, finish, 0.5f, window});
    return y;
  }
  std::vector<uint8_t> q(m.inputs * stride * k.activation_bytes + kSlackBytes);
  k.quantize(x.data(), m.inputs, stride, lanes, q.data(), scale.data());
  k.product_int8(
      {&m, q.data(), stride, lanes, scale.data(), y.data(), stride, finish, 0.5f, window});
  return y;
}

// Moves values away from the middle between two steps of quantisation: there the last bit of a
// product decides, which processors that fuse it with a sum do not round.
void avoid_middles(std::vector<float>& x, size_t rows, size_t stride) {
  for (size_t lane = 0; lane < stride; ++lane) {
    float largest = 1e-30f;
    for (size_t r = 0; r < rows; ++r) largest = std::max(largest, std::fabs(x[r * stride + lane]));
    for (size_t r = 0; r < rows; ++r) {
      const float steps = std::fabs(x[r * stride + lane]) * 127.0f / largest;
      if (std::fabs(steps - std::floor(steps) - 0.5f) < 1e-3f) x[r * stride + lane] *= 0.99f;
    }
  }
}

void products(const Kernels& kernels, Random& random) {
  for (uint32_t turn = 0; turn < 60; ++turn) {
    const uint32_t group = turn % 3 == 2 ? 16 : 8, run = turn % 3 == 1 ? 4 : 1;
    const bool int8 = turn % 4 != 3;
    const Weights w = random_matrix(random, 1 + random.below(50), 4 + random.below(90),
                                    int8 ? group : 8, run, int8);
    const size_t lanes = 8 * (1 + random.below(8)), stride = lanes + 8 * random.below(3);
    std::vector<float> x = random_floats(random, w.matrix.inputs * stride, 3.0f);
    for (size_t r = 0; r < w.matrix.inputs; ++r) x[r * stride + 2] = 0.0f;  // a silent frame
    avoid_middles(x, w.matrix.inputs, stride);
    const auto finish = static_cast<Finish>(random.below(4));
    same(product(kernels, w.matrix, x, stride, lanes, finish),
         product(kScalarKernels, w.matrix, x, stride, lanes, finish), 2e-5f);
  }
}

// The last four lanes of each window are unused: the others do not change, and these stay finite.
void short_windows(const Kernels& kernels, Random& random) {
  for (uint32_t turn = 0; turn < 60; ++turn) {
    const size_t window = 8 * (1 + random.below(4)), lanes = window * (1 + random.below(3));
    const Weights w = random_matrix(random, 1 + random.below(40), 4 + random.below(60),
                                    turn % 3 == 2 ? 16 : 8, turn % 3 == 1 ? 4 : 1, true);
    const size_t stride = lanes + 8 * random.below(2);
    std::vector<float> x = random_floats(random, w.matrix.inputs * stride, 3.0f);
    const auto finish = static_cast<Finish>(random.below(4));
    const auto whole = product(kernels, w.matrix, x, stride, lanes, finish);
    const auto found = product(kernels, w.matrix, x, stride, lanes, finish, window);
    for (size_t i = 0; i < found.size(); ++i) {
      const size_t lane = i % stride;
      if (lane < lanes && lane % window >= window - 4) {
        CHECK(std::isfinite(found[i]));
      } else {
        CHECK(found[i] == whole[i]);
      }
    }
  }
}

void extremes(const Kernels& kernels) {
  // The largest possible sums: every weight and every activation at its limit.
  Random random(5);
  Weights w = random_matrix(random, 8, 1024, 8, 1, true);
  for (int8_t& weight : w.quads) weight = 127;
  w.matrix.weight_sums.assign(8, 0);
  for (size_t o = 0; o < 8; ++o) {
    w.matrix.weight_sums[o] = static_cast<int32_t>(w.matrix.begin[1]) * 4 * 127;
  }
  const std::vector<float> x(1024 * 8, -2.0f);
  same(product(kernels, w.matrix, x, 8, 8, Finish::kStore),
       product(kScalarKernels, w.matrix, x, 8, 8, Finish::kStore), 1e-6f);
}

void elementwise(const Kernels& k, Random& random) {
  const Kernels& ref = kScalarKernels;
  const size_t rows = 33, lanes = 24, stride = 32;
  for (float size : {0.001f, 1.0f, 50.0f}) {
    const auto x = random_floats(random, 2 * rows * stride, size);
    const auto gain = random_floats(random, rows), bias = random_floats(random, rows);
    std::vector<float> a(2 * rows * stride), b(a);
    k.norm(x.data(), rows, stride, lanes, gain.data(), bias.data(), a.data());
    ref.norm(x.data(), rows, stride, lanes, gain.data(), bias.data(), b.data());
    same(a, b, 1e-4f);
    k.gate(x.data(), rows, stride, lanes, a.data(), stride);
    ref.gate(x.data(), rows, stride, lanes, b.data(), stride);
    same(a, b, 1e-5f);
    k.tanh_sum(x.data(), rows, stride, lanes, bias.data(), a.data(), stride);
    ref.tanh_sum(x.data(), rows, stride, lanes, bias.data(), b.data(), stride);
    same(a, b, 1e-5f);
    const auto weight = random_floats(random, rows * 7);
    k.depthwise(x.data(), rows, stride, lanes, weight.data(), 7, bias.data(), a.data(), stride);
    ref.depthwise(x.data(), rows, stride, lanes, weight.data(), 7, bias.data(), b.data(), stride);
    same(a, b, 1e-4f);
    const float* taps[9];
    for (size_t i = 0; i < 9; ++i) taps[i] = &x[i * stride];
    k.convolve9(taps, 5, lanes, weight.data(), bias.data(), a.data(), stride);
    ref.convolve9(taps, 5, lanes, weight.data(), bias.data(), b.data(), stride);
    same(a, b, 1e-4f);
    std::vector<float> turned = x, expected = x;
    const auto angles = random_floats(random, 2 * 16 * stride);
    k.rotate(turned.data(), 16, stride, lanes, angles.data(), &angles[16 * stride]);
    ref.rotate(expected.data(), 16, stride, lanes, angles.data(), &angles[16 * stride]);
    same(turned, expected, 1e-4f);
  }
}

void attention(const Kernels& k, Random& random) {
  for (size_t count : {1, 3, 4, 21, 84}) {
    const size_t width = 36, head = 18, lanes = 8 * (1 + count % 5);
    const auto q = random_floats(random, head * lanes, 4.0f);
    const auto rows = random_floats(random, 2 * count * width, 4.0f);
    std::vector<const float*> keys, values;
    for (size_t j = 0; j < count; ++j) {
      keys.push_back(&rows[2 * j * width]);
      values.push_back(&rows[(2 * j + 1) * width]);
    }
    std::vector<float> scores(count * 24), a(head * lanes), b(a);
    k.attend({q.data(), lanes, lanes, head, keys.data(), values.data(), count, head,
              scores.data(), a.data(), lanes});
    kScalarKernels.attend({q.data(), lanes, lanes, head, keys.data(), values.data(), count, head,
                           scores.data(), b.data(), lanes});
    same(a, b, 1e-4f);
  }
}

// The value of a finite half by definition.
float exact(uint32_t half) {
  const int exponent = static_cast<int>(half >> 10 & 31), fraction = static_cast<int>(half & 1023);
  const float size = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                   : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return half & 0x8000 ? -size : size;
}

uint16_t narrowed(const Kernels& k, float value) {
  uint16_t half = 0;
  k.narrow(&value, 1, &half);
  return half;
}

void halves(const Kernels& k, Random& random) {
  std::vector<uint16_t> all, again;
  for (uint32_t half = 0; half < 0x10000; ++half) {
    if ((half >> 10 & 31) != 31) all.push_back(static_cast<uint16_t>(half));
  }
  std::vector<float> values(all.size());
  again.resize(all.size());
  k.widen(all.data(), all.size(), values.data());
  k.narrow(values.data(), values.size(), again.data());
  CHECK(again == all);
  for (size_t i = 0; i < all.size(); ++i) {
    CHECK(values[i] == exact(all[i]));
    if ((all[i] & 0x7fff) == 0x7bff) continue;  // the largest half has no neighbour
    // Midway to the next half the even one is nearest; beside the middle, the nearer one.
    const uint16_t next = static_cast<uint16_t>(all[i] + 1);
    const float middle = (values[i] + exact(next)) / 2;
    CHECK(narrowed(k, middle) == (all[i] & 1 ? next : all[i]));
    CHECK(narrowed(k, std::nextafter(middle, values[i])) == all[i]);
    CHECK(narrowed(k, std::nextafter(middle, exact(next))) == next);
  }
  CHECK(narrowed(k, 65520.0f) == 0x7bff && narrowed(k, -3e38f) == 0xfbff);
  for (size_t count = 0; count < 20; ++count) {  // nothing beyond the count is written
    const auto x = random_floats(random, count, 100.0f);
    std::vector<uint16_t> some(count + 8, 7);
    std::vector<float> back(count + 8, 7.0f);
    k.narrow(x.data(), count, some.data());
    k.widen(some.data(), count, back.data());
    for (size_t i = 0; i < count + 8; ++i) {
      CHECK(i < count ? std::fabs(back[i] - x[i]) <= 0.04f : some[i] == 7 && back[i] == 7.0f);
    }
  }
}

void all(const Kernels& kernels, const char* how) {
  Random random(7);
  products(kernels, random);
  short_windows(kernels, random);
  extremes(kernels);
  elementwise(kernels, random);
  attention(kernels, random);
  halves(kernels, random);
  std::printf("kernels %s%s: ok\n", kernels.name, how);
}

}  // namespace

int main() {
  std::istringstream names(kernel_names());
  bool avx2 = false, vnni = false;
  for (std::string name; names >> name;) {
    all(choose_kernels(name.c_str()), "");
    avx2 = avx2 || name == "avx2";
    vnni = vnni || name == "avxvnni";
  }
#if defined(DUALMODE_TRAPS_VNNI)
  if (avx2 && !vnni) {
    trapped::install();
    all(kAvxVnniKernels, ", with trapped instructions");
  }
#endif
  return 0;
}

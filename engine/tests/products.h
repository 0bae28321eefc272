// Matrices with random weights, for the test and the measurement of the kernels.
#pragma once

#include <algorithm>

#include "check.h"
#include "kernels/kernels.h"

struct Weights {
  dualmode::Matrix matrix;
  std::vector<int8_t> quads;
  std::vector<float> floats;
};

using Columns = std::vector<std::vector<uint16_t>>;  // that each group of outputs keeps

// Random weights in quads (int8) or columns (fp32) at the columns given.
inline Weights matrix_of(Random& random, uint32_t outputs, uint32_t inputs, uint32_t group,
                         const Columns& kept, bool int8) {
  Weights w;
  dualmode::Matrix& m = w.matrix;
  m.outputs = outputs;
  m.inputs = inputs;
  m.group = group;
  const size_t multiple = int8 ? 4 : 1;
  m.begin.push_back(0);
  for (size_t g = 0; g < kept.size(); ++g) {
    const size_t before = m.columns.size();
    m.columns.insert(m.columns.end(), kept[g].begin(), kept[g].end());
    while (m.columns.size() % multiple != 0) m.columns.push_back(m.columns.back());
    const size_t stored = m.columns.size() - before;
    m.begin.push_back(static_cast<uint32_t>(m.columns.size() / multiple));
    if (int8) w.quads.resize((before + stored) * group);
    for (size_t c = 0; c < stored; ++c) {
      for (uint32_t o = 0; o < group; ++o) {
        const bool real = c < kept[g].size() && g * group + o < outputs;
        if (int8) {
          const size_t at = (before + c) / 4 * group * 4 + o * 4 + (before + c) % 4;
          w.quads[at] = real ? static_cast<int8_t>(random.below(255)) : int8_t{0};
          if (w.quads[at] == -128) w.quads[at] = -127;
        } else {
          w.floats.push_back(real ? random.uniform() : 0.0f);
        }
      }
    }
  }
  w.quads.resize(std::max<size_t>(m.begin.back(), 1) * group * 4);
  w.floats.resize(std::max<size_t>(w.floats.size(), 8));
  if (int8) m.quads = w.quads.data(); else m.floats = w.floats.data();
  for (size_t o = 0; o < kept.size() * group; ++o) {
    m.scale.push_back(0.01f + 0.01f * (random.uniform() + 1.0f));
    m.bias.push_back(random.uniform());
    int32_t sum = 0;
    for (size_t q = m.begin[o / group]; int8 && q < m.begin[o / group + 1]; ++q) {
      for (size_t k = 0; k < 4; ++k) sum += w.quads[(q * group + o % group) * 4 + k];
    }
    m.weight_sums.push_back(sum);
  }
  return w;
}

// An int8 matrix in groups of 8 outputs, each of which keeps `count` random columns.
inline Weights matrix_keeping(Random& random, uint32_t outputs, uint32_t inputs, uint32_t count) {
  Columns kept(outputs / 8);
  for (auto& columns : kept) {
    for (uint32_t c = 0; c < inputs; ++c) {
      // Choose the rest with equal chances, in ascending order.
      const uint32_t missing = count - static_cast<uint32_t>(columns.size());
      if (random.below(inputs - c) < missing) columns.push_back(static_cast<uint16_t>(c));
    }
  }
  return matrix_of(random, outputs, inputs, 8, kept, true);
}

inline std::vector<float> random_floats(Random& random, size_t count, float size = 1.0f) {
  std::vector<float> values(count);
  for (float& value : values) value = size * random.uniform();
  return values;
}

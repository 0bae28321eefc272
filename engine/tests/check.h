// Assertions and test data of the native tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
      std::exit(1);                                                                   \
    }                                                                                 \
  } while (false)

// A random generator with the same numbers on every platform.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed * 2654435761u + 1) {}
  uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    return state_ ^= state_ << 5;
  }
  uint32_t below(uint32_t limit) { return next() % limit; }
  float uniform() { return static_cast<float>(next() >> 8) / 16777216.0f * 2.0f - 1.0f; }

 private:
  uint32_t state_;
};

inline std::vector<uint8_t> read_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  CHECK(file != nullptr);
  std::vector<uint8_t> bytes;
  uint8_t buffer[4096];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, file)) > 0;) {
    bytes.insert(bytes.end(), buffer, buffer + count);
  }
  std::fclose(file);
  return bytes;
}

// Square waves and noise that change every 150 ms, independent of the C library.
inline std::vector<float> babble(double seconds, uint32_t seed) {
  Random random(seed);
  std::vector<float> samples(static_cast<size_t>(seconds * 16000.0));
  uint32_t period = 40;
  float loudness = 0.1f;
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % 2400 == 0) {
      period = 4 + random.below(120);
      loudness = 0.25f * (random.uniform() + 1.0f) / 2.0f;
    }
    const float wave = i / period % 2 == 0 ? 1.0f : -1.0f;
    samples[i] = loudness * (wave + 0.5f * random.uniform());
  }
  return samples;
}

// Log-mel features of a stream, as kaldi-native-fbank computes them: windows of 25 ms every 10 ms
// (Povey), no dither, edges mirrored, 80 mels of 20 to 7600 Hz.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace dualmode {

constexpr size_t kMels = 80;

// Window, twiddles and mel filters: the same for all streams, immutable.
class FeatureTables {
 public:
  FeatureTables();

  // Log-mels (80) of a window of 400 samples, which is overwritten.
  void log_mels(float* window, float* mels) const;

 private:
  struct Filter {
    size_t first;
    std::vector<float> weights;
  };
  void power_spectrum(const float* window, float* power) const;

  std::vector<float> window_;
  std::vector<float> cosines_, sines_;
  std::vector<size_t> reversed_;
  std::vector<Filter> filters_;
};

class OnlineFeatures {
 public:
  explicit OnlineFeatures(const FeatureTables* tables) : tables_(tables) {}

  // Add samples and append the completed rows of 80 to `mels`.
  void push(const float* samples, size_t count, std::vector<float>& mels);
  // Append the last rows, whose windows extend beyond the end of the stream.
  void finish(std::vector<float>& mels);
  void reset();
  // Samples that are still needed for `rows` more rows.
  size_t missing(size_t rows) const;

 private:
  void emit(size_t frames, bool ended, std::vector<float>& mels);

  const FeatureTables* tables_;
  std::vector<float> waiting_;  // samples from `first_` on
  long long first_ = 0;
  long long samples_ = 0;
  long long frames_ = 0;
};

}  // namespace dualmode

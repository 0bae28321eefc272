#include "log_mels.h"

#include <algorithm>
#include <cfloat>
#include <cmath>

namespace dualmode {
namespace {

constexpr size_t kLength = 400, kShift = 160, kPoints = 512, kHalf = kPoints / 2;
constexpr double kPi = 3.14159265358979323846;
constexpr float kPreemphasis = 0.97f;
constexpr float kLowHz = 20.0f, kHighHz = 7600.0f, kRateHz = 16000.0f;

// In float, like kaldi-native-fbank, since rounding matters for bins at the edge of a filter.
float mel(float hz) { return 1127.0f * std::log(1.0f + hz / 700.0f); }

// The first sample of a frame; frame t is centred at 10 t + 5 ms.
long long start_of(long long frame) {
  return frame * static_cast<long long>(kShift) + kShift / 2 - static_cast<long long>(kLength) / 2;
}

}  // namespace

FeatureTables::FeatureTables() : window_(kLength), cosines_(kHalf), sines_(kHalf) {
  for (size_t i = 0; i < kLength; ++i) {
    const double raised = 0.5 - 0.5 * std::cos(2.0 * kPi * static_cast<double>(i) / (kLength - 1));
    window_[i] = static_cast<float>(std::pow(raised, 0.85));
  }
  for (size_t i = 0; i < kHalf; ++i) {
    const double angle = 2.0 * kPi * static_cast<double>(i) / kPoints;
    cosines_[i] = static_cast<float>(std::cos(angle));
    sines_[i] = static_cast<float>(std::sin(angle));
  }
  reversed_.resize(kHalf);
  for (size_t i = 0; i < kHalf; ++i) {
    size_t reversed = 0;
    for (size_t bit = 1; bit < kHalf; bit <<= 1) reversed = reversed << 1 | ((i & bit) != 0);
    reversed_[i] = reversed;
  }
  const float low = mel(kLowHz), step = (mel(kHighHz) - low) / (kMels + 1);
  for (size_t m = 0; m < kMels; ++m) {
    const auto number = static_cast<float>(m);
    const float left = low + number * step, centre = low + (number + 1) * step,
                right = low + (number + 2) * step;
    Filter filter{kHalf, {}};
    for (size_t bin = 0; bin < kHalf; ++bin) {
      const float at = mel(kRateHz / kPoints * static_cast<float>(bin));
      if (at <= left || at >= right) continue;
      filter.first = std::min(filter.first, bin);
      filter.weights.push_back(at <= centre ? (at - left) / (centre - left)
                                            : (right - at) / (right - centre));
    }
    filters_.push_back(filter);
  }
}

// A complex transform of 256 points computes that of 512 real samples: even samples are its real
// parts, odd ones its imaginary parts, and the two spectra are separated afterwards.
void FeatureTables::power_spectrum(const float* window, float* power) const {
  float re[kHalf], im[kHalf];
  for (size_t i = 0; i < kHalf; ++i) {
    const size_t from = 2 * reversed_[i];
    re[i] = from < kLength ? window[from] : 0.0f;
    im[i] = from + 1 < kLength ? window[from + 1] : 0.0f;
  }
  for (size_t size = 2; size <= kHalf; size *= 2) {
    const size_t half = size / 2, stride = kPoints / size;
    for (size_t start = 0; start < kHalf; start += size) {
      for (size_t k = 0; k < half; ++k) {
        const float c = cosines_[k * stride], s = sines_[k * stride];
        const size_t a = start + k, b = a + half;
        const float x = re[b] * c + im[b] * s, y = im[b] * c - re[b] * s;
        re[b] = re[a] - x;
        im[b] = im[a] - y;
        re[a] += x;
        im[a] += y;
      }
    }
  }
  power[0] = (re[0] + im[0]) * (re[0] + im[0]);
  for (size_t k = 1; k < kHalf; ++k) {
    const size_t mirror = kHalf - k;
    const float even_re = 0.5f * (re[k] + re[mirror]), even_im = 0.5f * (im[k] - im[mirror]);
    const float odd_re = 0.5f * (im[k] + im[mirror]), odd_im = 0.5f * (re[mirror] - re[k]);
    const float c = cosines_[k], s = sines_[k];
    const float x = even_re + odd_re * c + odd_im * s, y = even_im + odd_im * c - odd_re * s;
    power[k] = x * x + y * y;
  }
}

void FeatureTables::log_mels(float* window, float* mels) const {
  double sum = 0.0;
  for (size_t i = 0; i < kLength; ++i) sum += static_cast<double>(window[i]);
  const auto mean = static_cast<float>(sum / kLength);
  for (size_t i = 0; i < kLength; ++i) window[i] -= mean;
  for (size_t i = kLength - 1; i > 0; --i) window[i] -= kPreemphasis * window[i - 1];
  window[0] -= kPreemphasis * window[0];
  for (size_t i = 0; i < kLength; ++i) window[i] *= window_[i];
  float power[kHalf];
  power_spectrum(window, power);
  for (size_t m = 0; m < kMels; ++m) {
    const Filter& filter = filters_[m];
    float energy = 0.0f;
    for (size_t i = 0; i < filter.weights.size(); ++i) {
      energy += filter.weights[i] * power[filter.first + i];
    }
    // Samples near the limit of float overflow; their energy is set to the largest value.
    if (!(energy <= FLT_MAX)) energy = FLT_MAX;
    mels[m] = std::log(std::max(energy, FLT_EPSILON));
  }
}

void OnlineFeatures::push(const float* samples, size_t count, std::vector<float>& mels) {
  waiting_.insert(waiting_.end(), samples, samples + count);
  samples_ += static_cast<long long>(count);
  const long long last = samples_ - static_cast<long long>(kLength) - start_of(0);
  const long long ready = last < 0 ? 0 : last / static_cast<long long>(kShift) + 1;
  // A frame also needs half a window of samples before its centre, which short streams lack.
  const long long begun = (samples_ + static_cast<long long>(kShift) / 2) / kShift;
  emit(static_cast<size_t>(std::max(0LL, std::min(ready, begun) - frames_)), false, mels);
}

void OnlineFeatures::finish(std::vector<float>& mels) {
  const long long total = (samples_ + static_cast<long long>(kShift) / 2) / kShift;
  emit(static_cast<size_t>(std::max(0LL, total - frames_)), true, mels);
}

void OnlineFeatures::emit(size_t frames, bool ended, std::vector<float>& mels) {
  const size_t before = mels.size();
  mels.resize(before + frames * kMels);
  float window[kLength];
  for (size_t f = 0; f < frames; ++f, ++frames_) {
    const long long start = start_of(frames_);
    for (size_t i = 0; i < kLength; ++i) {
      long long at = start + static_cast<long long>(i);
      while (at < 0 || (ended && at >= samples_)) at = at < 0 ? -at - 1 : 2 * samples_ - 1 - at;
      window[i] = waiting_[static_cast<size_t>(at - first_)];
    }
    tables_->log_mels(window, mels.data() + before + f * kMels);
  }
  // Mirroring reads at most one window before the end.
  const long long keep = std::min(start_of(frames_), samples_ - static_cast<long long>(kLength));
  if (keep > first_) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + (keep - first_));
    first_ = keep;
  }
}

size_t OnlineFeatures::missing(size_t rows) const {
  if (rows == 0) return 0;
  const long long total = frames_ + static_cast<long long>(rows);
  const long long end = start_of(total - 1) + static_cast<long long>(kLength);
  const long long begun = total * kShift - static_cast<long long>(kShift) / 2;
  return static_cast<size_t>(std::max(0LL, std::max(end, begun) - samples_));
}

void OnlineFeatures::reset() {
  waiting_.clear();
  first_ = samples_ = frames_ = 0;
}

}  // namespace dualmode

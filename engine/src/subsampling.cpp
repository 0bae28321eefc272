#include "subsampling.h"

#include <algorithm>

#include "bytes.h"

namespace dualmode {
namespace {

constexpr size_t kMelReach = 7;  // frame t reads mel frames 4t .. 4t + 6
constexpr size_t kFirstBins = (kMels - 3) / 2 + 1;

// planes[r][bin][t] = normalised mel frame 4t + r of `count` frames, zero beyond them.
void lay_out_mels(const Model& model, const float* mels, size_t mel_rows, size_t count,
                  size_t stride, std::vector<float>& planes) {
  planes.assign(kMelReach * kMels * stride, 0.0f);
  for (size_t t = 0; t < count; ++t) {
    for (size_t r = 0; r < kMelReach; ++r) {
      const size_t row = 4 * t + r;
      for (size_t bin = 0; bin < kMels; ++bin) {
        const float value = row < mel_rows ? mels[row * kMels + bin] : 0.0f;
        planes[(r * kMels + bin) * stride + t] =
            (value - model.mean[bin]) * model.inverse_deviation[bin];
      }
    }
  }
}

}  // namespace

// Lanes are frames. The first convolution is computed at the three times that each frame of the
// second reads, as three planes of rows (time, channel, bin). A column of the second convolution's
// matrix is then a row of the planes, shifted by two rows per bin of output.
void subsample(const Model& model, const float* mels, size_t mel_rows, size_t count, float* x,
               size_t stride, size_t first, Workspace& w) {
  const Kernels& kernels = model.kernels;
  const size_t channels = model.settings.subsampling_channels;
  const size_t bins = model.settings.subsampled_mels();
  const size_t lanes = round_up(count, kLanes);
  lay_out_mels(model, mels, mel_rows, count, lanes, w.mels);
  const size_t rows = 3 * channels * kFirstBins;
  w.planes.resize(rows * lanes);
  for (size_t time = 0; time < 3; ++time) {
    for (size_t bin = 0; bin < kFirstBins; ++bin) {
      const float* taps[9];
      for (size_t k = 0; k < 9; ++k) {
        taps[k] = &w.mels[((2 * time + k / 3) * kMels + 2 * bin + k % 3) * lanes];
      }
      kernels.convolve9(taps, channels, lanes, model.first_convolution.data(),
                        model.first_convolution_bias.data(),
                        &w.planes[(time * channels * kFirstBins + bin) * lanes],
                        kFirstBins * lanes);
    }
  }
  const Matrix& second = model.second_convolution;
  const bool int8 = second.int8();
  const size_t value_bytes = int8 ? kernels.activation_bytes : sizeof(float);
  const uint8_t* source = reinterpret_cast<const uint8_t*>(w.planes.data());
  if (int8) {
    w.quantized.resize(rows * lanes * value_bytes + kSlackBytes);
    w.frame_scale.resize(lanes);
    kernels.quantize(w.planes.data(), rows, lanes, lanes, w.quantized.data(),
                     w.frame_scale.data());
    source = w.quantized.data();
  }
  w.subsampled.resize(channels * bins * lanes);
  for (size_t bin = 0; bin < bins; ++bin) {
    const Product product{&second, source + 2 * bin * lanes * value_bytes,
                          lanes,   lanes,
                          w.frame_scale.data(), &w.subsampled[bin * lanes],
                          bins * lanes,         Finish::kRelu,
                          1.0f};
    (int8 ? kernels.product_int8 : kernels.product_fp32)(product);
  }
  w.convolved.resize(model.settings.width * lanes);
  apply(kernels, model.subsampling_out, w.subsampled.data(), lanes, lanes, w.convolved.data(),
        lanes, Finish::kStore, 1.0f, w);
  for (size_t r = 0; r < model.settings.width; ++r) {
    std::copy_n(&w.convolved[r * lanes], count, x + r * stride + first);
  }
}

}  // namespace dualmode

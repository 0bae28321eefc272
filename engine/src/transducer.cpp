#include "transducer.h"

#include <algorithm>
#include <cmath>

namespace dualmode {

void Scorer::predict(const std::vector<std::vector<uint32_t>>& contexts, std::vector<float>& out) {
  const Settings& s = settings();
  const size_t width = s.predictor_width;
  embedded_.assign(s.context_tokens * width * kLanes, 0.0f);
  for (size_t lane = 0; lane < contexts.size(); ++lane) {
    for (size_t position = 0; position < s.context_tokens; ++position) {
      const size_t token = contexts[lane][position];
      const Embedding& e = model_.embedding;
      for (size_t i = 0; i < width; ++i) {
        embedded_[(position * width + i) * kLanes + lane] =
            e.rows == nullptr ? e.floats[token * width + i]
                              : e.scale[token] * static_cast<float>(e.rows[token * width + i]);
      }
    }
  }
  mixed_.resize(width * kLanes);
  out.resize(s.joiner_width * kLanes);
  apply(model_.kernels, model_.mix, embedded_.data(), kLanes, kLanes, mixed_.data(), kLanes,
        Finish::kRelu, 1.0f, w_);
  apply(model_.kernels, model_.from_predictions, mixed_.data(), kLanes, kLanes, out.data(), kLanes,
        Finish::kStore, 1.0f, w_);
}

const float* Scorer::score_frames(const float* frames, size_t frame_stride,
                                  const float* prediction, size_t stride) {
  shift_.resize(settings().joiner_width);
  for (size_t r = 0; r < shift_.size(); ++r) shift_[r] = prediction[r * stride];
  return logits_of(frames, frame_stride);
}

const float* Scorer::score_predictions(const float* frame, size_t frame_stride,
                                       const float* predictions) {
  shift_.resize(settings().joiner_width);
  for (size_t r = 0; r < shift_.size(); ++r) shift_[r] = frame[r * frame_stride];
  return logits_of(predictions, kLanes);
}

const float* Scorer::logits_of(const float* x, size_t stride) {
  const Settings& s = settings();
  joined_.resize(s.joiner_width * kLanes);
  logits_.resize(s.vocabulary * kLanes);
  model_.kernels.tanh_sum(x, s.joiner_width, stride, kLanes, shift_.data(), joined_.data(),
                          kLanes);
  apply(model_.kernels, model_.out, joined_.data(), kLanes, kLanes, logits_.data(), kLanes,
        Finish::kStore, 1.0f, w_);
  for (size_t lane = 0; lane < kLanes; ++lane) logits_[lane] -= blank_penalty_;
  return logits_.data();
}

float Scorer::log_total(size_t lane) const {
  float largest = logits_[lane];
  for (size_t v = 1; v < settings().vocabulary; ++v) {
    largest = std::max(largest, logits_[v * kLanes + lane]);
  }
  float total = 0.0f;
  for (size_t v = 0; v < settings().vocabulary; ++v) {
    total += std::exp(logits_[v * kLanes + lane] - largest);
  }
  return largest + std::log(total);
}

}  // namespace dualmode

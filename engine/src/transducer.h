// Predictor and joiner: scores of the next token for a frame and the last tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "encoder.h"

namespace dualmode {

constexpr uint32_t kBlank = 0, kUnknown = 1;

class Scorer {
 public:
  // `blank_penalty` is subtracted from the logit of blank.
  Scorer(const Model& model, Workspace& workspace, float blank_penalty)
      : model_(model), w_(workspace), blank_penalty_(blank_penalty) {}

  // Predictions (J, lanes) after the last tokens of up to kLanes hypotheses; `contexts` has
  // context_tokens tokens of each. Lane k is contexts[k].
  void predict(const std::vector<std::vector<uint32_t>>& contexts, std::vector<float>& out);
  // Logits (V, kLanes) of up to kLanes frames under one prediction (J, stride): frame t is at
  // frames + t, and `prediction` has steps of `stride`.
  const float* score_frames(const float* frames, size_t frame_stride, const float* prediction,
                            size_t stride);
  // Logits (V, kLanes) of one frame under predictions (J, kLanes).
  const float* score_predictions(const float* frame, size_t frame_stride,
                                 const float* predictions);
  // log of the sum of e^logit of a lane.
  float log_total(size_t lane) const;

  const Settings& settings() const { return model_.settings; }

 private:
  const float* logits_of(const float* x, size_t stride);

  const Model& model_;
  Workspace& w_;
  const float blank_penalty_;
  std::vector<float> shift_, joined_, logits_, embedded_, mixed_;
};

}  // namespace dualmode

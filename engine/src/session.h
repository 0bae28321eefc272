// Recognition of one stream of samples.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "dualmode/engine.h"
#include "encoder.h"
#include "search.h"
#include "transcript.h"

namespace dualmode {

class Session {
 public:
  Session(std::shared_ptr<const Model> model, const dualmode_options& options);

  // Process more samples. Returns whether the text changed or a segment ended. Throws Error, and
  // leaves the session unchanged, for samples that are not finite or after finish.
  bool push(const float* samples, size_t count);
  // The same for many sessions of one model, each given once.
  static std::vector<bool> push_all(const std::vector<Session*>& sessions,
                                    const float* const* samples, const size_t* counts);
  // Samples that are still needed before the next window can run, at least 1.
  size_t missing() const;
  Transcript finish();
  void reset();

  // Words since the last endpoint.
  Transcript partial() const;
  // Finished segments, oldest first, for the caller to remove.
  std::deque<Transcript> segments;

  const Model& model() const { return *model_; }
  std::shared_ptr<const Model> shared_model() const { return model_; }

 private:
  void add_samples(const float* samples, size_t count);
  size_t pending_frames() const;
  bool ready(bool ended) const;
  Window next_window();
  void take(const float* frames, size_t stride, const Window& window);
  bool run(bool ended);
  bool text_changed();
  void end_segment_if_due();
  void cut(size_t tokens);
  void check(const float* samples, size_t count) const;

  std::shared_ptr<const Model> model_;
  const dualmode_options options_;
  OnlineFeatures features_;
  EncoderState state_;
  Workspace workspace_;
  Scorer scorer_;
  std::unique_ptr<Search> search_;
  std::vector<float> mels_;  // from the first mel frame that the next window needs
  size_t known_ = 0;         // real frames whose latents are in the encoder's state
  std::vector<Token> finished_;
  std::vector<Word> shown_;
  uint64_t samples_ = 0;
  int64_t frames_ = 0, segment_start_ = 0;
  bool segment_ended_ = false;
  bool open_ = true;
};

// Recognise a whole recording with a model of full context, divided at quiet places.
Transcript transcribe_whole(const Model& model, const dualmode_options& options,
                            const float* samples, size_t count);
// Throws Error if an option is out of its range.
void check_options(const dualmode_options& options);
// Throws Error unless all samples are finite.
void check_finite(const float* samples, size_t count);

}  // namespace dualmode

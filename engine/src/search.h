// Searches over the frames of one stream: greedy, and modified beam search.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "transducer.h"

namespace dualmode {

struct Token {
  uint32_t id;
  int64_t frame;  // from the start of the stream
  float log_prob;
};

class Search {
 public:
  virtual ~Search() = default;
  // Decode `count` frames (J, stride); up to kLanes floats past a row may be read.
  virtual void advance(Scorer& scorer, const float* frames, size_t stride, size_t count) = 0;
  // The best tokens since the last commit.
  virtual const std::vector<Token>& best() const = 0;
  // Number of them that no later frame can change.
  virtual size_t stable() const = 0;
  // Commit to the best hypothesis and drop its first `tokens` tokens.
  virtual void commit(size_t tokens) = 0;
  virtual void reset() = 0;
};

// Width 1 is greedy.
std::unique_ptr<Search> make_search(const Settings& settings, uint32_t width);

}  // namespace dualmode

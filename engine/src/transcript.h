// Conversion of tokens to words with times and confidences.
#pragma once

#include <string>
#include <vector>

#include "search.h"

namespace dualmode {

struct Word {
  std::string text;
  double start_s, end_s, confidence;
  size_t end;  // number of tokens up to its last one

  bool operator==(const Word& o) const {
    return text == o.text && start_s == o.start_s && end_s == o.end_s && confidence == o.confidence;
  }
};

struct Transcript {
  std::vector<Word> words;
  double seconds = 0.0;
  size_t stable = 0;

  std::string text() const;
};

// Words of tokens; groups without text, such as a lone <unk>, are left out.
std::vector<Word> words_of(const Model& model, const std::vector<Token>& tokens);
// The same for audio of `seconds`: words emitted in the appended silence end with the audio.
Transcript transcript_of(const Model& model, const std::vector<Token>& tokens, double seconds);

}  // namespace dualmode

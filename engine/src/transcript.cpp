#include "transcript.h"

#include <algorithm>
#include <cmath>

namespace dualmode {
namespace {

constexpr char kWordStart[] = "\xe2\x96\x81";  // U+2581, SentencePiece's mark for a space

std::string without_marks(const std::string& piece) {
  std::string text = piece;
  for (size_t at; (at = text.find(kWordStart)) != std::string::npos;) text.erase(at, 3);
  return text;
}

double to_milliseconds(double seconds) { return std::round(seconds * 1000.0) / 1000.0; }

}  // namespace

std::string Transcript::text() const {
  std::string joined;
  for (const Word& word : words) {
    if (!joined.empty()) joined += ' ';
    joined += word.text;
  }
  return joined;
}

std::vector<Word> words_of(const Model& model, const std::vector<Token>& tokens) {
  const double frame_s = model.settings.frame_s();
  std::vector<Word> words;
  for (size_t first = 0, end; first < tokens.size(); first = end) {
    std::string text;
    double log_prob = 0.0;
    for (end = first; end < tokens.size(); ++end) {
      const Token& token = tokens[end];
      if (end > first && model.word_starts[token.id]) break;
      if (token.id > kUnknown) text += without_marks(model.artifact.pieces[token.id]);
      log_prob += static_cast<double>(token.log_prob);
    }
    if (text.empty()) continue;
    const double mean = log_prob / static_cast<double>(end - first);
    words.push_back({text, to_milliseconds(static_cast<double>(tokens[first].frame) * frame_s),
                     to_milliseconds(static_cast<double>(tokens[end - 1].frame + 1) * frame_s),
                     std::min(1.0, std::exp(mean)), end});
  }
  return words;
}

Transcript transcript_of(const Model& model, const std::vector<Token>& tokens, double seconds) {
  Transcript transcript;
  transcript.seconds = seconds;
  transcript.words = words_of(model, tokens);
  transcript.stable = transcript.words.size();
  const double end = to_milliseconds(seconds);
  for (Word& word : transcript.words) {
    word.start_s = std::min(word.start_s, end);
    word.end_s = std::min(word.end_s, end);
  }
  return transcript;
}

}  // namespace dualmode

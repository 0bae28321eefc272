// The C API with numbers and strings only, for the page; texts are JSON.
#include <emscripten/emscripten.h>

#include <cstdio>
#include <string>

#include "dualmode/engine.h"

namespace {

struct Web {
  dualmode_error error{};
  std::string json;
};

Web& web() {
  static Web instance;  // one worker, one thread
  return instance;
}

void append_string(std::string& json, const char* text) {
  json += '"';
  for (const char* at = text; *at; ++at) {
    if (*at == '"' || *at == '\\') json += '\\';
    if (static_cast<unsigned char>(*at) >= 0x20) json += *at;
  }
  json += '"';
}

void append_number(std::string& json, const char* name, double value) {
  char number[64];
  std::snprintf(number, sizeof(number), ",\"%s\":%.3f", name, value);
  json += number;
}

// {"text", "words": [{"text", "start", "end", "confidence"}], "stable", "seconds"}
const char* keep(const dualmode_text& text) {
  std::string& json = web().json;
  json = "{\"text\":";
  append_string(json, text.text);
  json += ",\"words\":[";
  for (size_t i = 0; i < text.word_count; ++i) {
    const dualmode_word& word = text.words[i];
    json += i ? ",{\"text\":" : "{\"text\":";
    append_string(json, word.text);
    append_number(json, "start", word.start_s);
    append_number(json, "end", word.end_s);
    append_number(json, "confidence", word.confidence);
    json += '}';
  }
  json += "],\"stable\":" + std::to_string(text.stable_words);
  append_number(json, "seconds", text.seconds);
  json += '}';
  return json.c_str();
}

}  // namespace

extern "C" {

EMSCRIPTEN_KEEPALIVE const char* web_error() { return web().error.message; }
EMSCRIPTEN_KEEPALIVE const char* web_kernels() { return dualmode_kernel_names(); }

// Null if the bytes, which must outlive the model, are not an artifact.
EMSCRIPTEN_KEEPALIVE dualmode_model* web_open(const void* bytes, size_t size) {
  dualmode_model* model = nullptr;
  dualmode_open_memory(bytes, size, nullptr, &model, &web().error);
  return model;
}

// keep_finished: whether web_finish returns the text of all segments; 0 limits memory.
EMSCRIPTEN_KEEPALIVE dualmode_stream* web_stream(dualmode_model* model, int keep_finished) {
  dualmode_options options;
  dualmode_default_options(&options);
  options.keep_finished = keep_finished;
  dualmode_stream* stream = nullptr;
  dualmode_stream_new(model, &options, &stream, &web().error);
  return stream;
}

// 1 if the text changed, 0 if not, -1 for an error.
EMSCRIPTEN_KEEPALIVE int web_push(dualmode_stream* stream, const float* samples, size_t count) {
  int changed = 0;
  const int code = dualmode_stream_push(stream, samples, count, &changed, &web().error);
  return code == DUALMODE_OK ? changed : -1;
}

EMSCRIPTEN_KEEPALIVE const char* web_partial(dualmode_stream* stream) {
  dualmode_text text;
  if (dualmode_stream_partial(stream, &text, &web().error) != DUALMODE_OK) return nullptr;
  return keep(text);
}

// The oldest segment that has not been taken, or null.
EMSCRIPTEN_KEEPALIVE const char* web_segment(dualmode_stream* stream) {
  dualmode_text text;
  int there = 0;
  const int code = dualmode_stream_segment(stream, &text, &there, &web().error);
  return code == DUALMODE_OK && there ? keep(text) : nullptr;
}

EMSCRIPTEN_KEEPALIVE const char* web_finish(dualmode_stream* stream) {
  dualmode_text text;
  if (dualmode_stream_finish(stream, &text, &web().error) != DUALMODE_OK) return nullptr;
  return keep(text);
}

EMSCRIPTEN_KEEPALIVE int web_reset(dualmode_stream* stream) {
  return dualmode_stream_reset(stream, &web().error);
}

}

// The C API with numbers and strings only, for the page.
#include <emscripten/emscripten.h>

#include <string>

#include "dualmode/engine.h"

namespace {

struct Web {
  dualmode_error error{};
  std::string text;
};

Web& web() {
  static Web instance;  // one worker, one thread
  return instance;
}

const char* keep(const dualmode_text& text) {
  web().text = text.text;
  return web().text.c_str();
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

EMSCRIPTEN_KEEPALIVE dualmode_stream* web_stream(dualmode_model* model) {
  dualmode_stream* stream = nullptr;
  dualmode_stream_new(model, nullptr, &stream, &web().error);
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

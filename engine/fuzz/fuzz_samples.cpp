// Any floats as samples, in pieces of any length: rejected or processed.
#include <cstring>
#include <vector>

#include "dualmode/engine.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static dualmode_model* model = [] {
    dualmode_model* opened = nullptr;
    dualmode_open(DUALMODE_TEST_DATA "/device-int8.dual", nullptr, &opened, nullptr);
    return opened;
  }();
  if (model == nullptr) __builtin_trap();
  dualmode_stream* stream = nullptr;
  if (dualmode_stream_new(model, nullptr, &stream, nullptr) != DUALMODE_OK) __builtin_trap();
  while (size >= 5) {
    const size_t count = 1 + data[0] % ((size - 1) / 4);
    std::vector<float> samples(count * (data[0] > 200 ? 300 : 1));
    for (size_t i = 0; i < samples.size(); ++i) {
      std::memcpy(&samples[i], data + 1 + i % count * 4, 4);
    }
    dualmode_stream_push(stream, samples.data(), samples.size(), nullptr, nullptr);
    data += 1 + count * 4;
    size -= 1 + count * 4;
  }
  dualmode_text text;
  if (dualmode_stream_finish(stream, &text, nullptr) != DUALMODE_OK) __builtin_trap();
  dualmode_stream_free(stream);
  return 0;
}

// Any bytes as an artifact with a valid size and checksum: open it and, if possible, run it.
#include <cstring>
#include <vector>

#include "bytes.h"
#include "dualmode/engine.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint32_t> words((size + 3) / 4 + 1);
  auto* bytes = reinterpret_cast<uint8_t*>(words.data());
  if (size > 0) std::memcpy(bytes, data, size);
  if (size >= 24) {
    const uint64_t length = size;
    std::memcpy(bytes + 16, &length, 8);
    const uint32_t checksum = dualmode::crc32(bytes + 16, size - 16);
    std::memcpy(bytes + 12, &checksum, 4);
  }
  dualmode_model* model = nullptr;
  if (dualmode_open_memory(bytes, size, nullptr, &model, nullptr) != DUALMODE_OK) return 0;
  const std::vector<float> samples(9600, 0.01f);
  dualmode_stream* stream = nullptr;
  dualmode_text text;
  dualmode_transcribe(model, nullptr, samples.data(), samples.size(), &stream, &text, nullptr);
  dualmode_stream_free(stream);
  dualmode_close(model);
  return 0;
}

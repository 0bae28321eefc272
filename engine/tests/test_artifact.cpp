// Damaged artifacts either give an error or a model that runs.
#include <cstring>
#include <memory>

#include "bytes.h"
#include "check.h"
#include "dualmode/engine.h"

namespace {

void fix_checksum(std::vector<uint8_t>& bytes) {
  if (bytes.size() < 24) return;
  const uint64_t size = bytes.size();
  std::memcpy(&bytes[16], &size, 8);
  const uint32_t checksum = dualmode::crc32(&bytes[16], bytes.size() - 16);
  std::memcpy(&bytes[12], &checksum, 4);
}

void damage(std::vector<uint8_t>& bytes, Random& random) {
  const uint32_t kind = random.below(8);
  const auto size = static_cast<uint32_t>(bytes.size());
  const uint32_t interesting[] = {0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff};
  // Half of the damage is in the header, the settings and the tables.
  const uint32_t at = random.below(2) ? random.below(size) : random.below(size < 4096 ? size : 4096);
  if (kind < 3) {
    bytes[at] ^= static_cast<uint8_t>(1u << random.below(8));
  } else if (kind < 6) {
    const uint32_t value = random.below(2) ? interesting[random.below(8)] : random.next();
    for (uint32_t i = 0; i < 4 && at + i < size; ++i) {
      bytes[at / 4 * 4 + i < size ? at / 4 * 4 + i : at] = static_cast<uint8_t>(value >> 8 * i);
    }
  } else if (kind == 6) {
    bytes.resize(1 + random.below(size));
  } else {
    const uint32_t from = random.below(size), count = random.below(64);
    for (uint32_t i = 0; i < count && from + i < size && at + i < size; ++i) {
      bytes[at + i] = bytes[from + i];
    }
  }
}

// Open damaged bytes; if they can be opened, the model must run.
bool try_out(const std::vector<uint8_t>& bytes, const std::vector<float>& samples) {
  // A copy of exactly this size, so that sanitizers detect reads beyond it.
  const std::unique_ptr<uint32_t[]> copy(new uint32_t[(bytes.size() + 3) / 4]);
  std::memcpy(copy.get(), bytes.data(), bytes.size());
  dualmode_model* model = nullptr;
  dualmode_error error;
  const int code = dualmode_open_memory(copy.get(), bytes.size(), nullptr, &model, &error);
  if (code != DUALMODE_OK) {
    CHECK(model == nullptr);
    CHECK(code == DUALMODE_BAD_ARTIFACT || code == DUALMODE_UNSUPPORTED);
    CHECK(std::strlen(error.message) > 0);
    return false;
  }
  dualmode_stream* stream = nullptr;
  dualmode_text text;
  const int result = dualmode_transcribe(model, nullptr, samples.data(), samples.size(), &stream,
                                         &text, &error);
  CHECK(result == DUALMODE_OK || result == DUALMODE_OUT_OF_MEMORY);
  dualmode_stream_free(stream);
  dualmode_close(model);
  return true;
}

}  // namespace

int main(int count, char** values) {
  const int rounds = count > 1 ? std::atoi(values[1]) : 2000;
  const std::vector<float> samples = babble(0.3, 3);
  for (const char* name : {"/device-int8.dual", "/server-fp32.dual", "/device-fp32-80ms.dual"}) {
    const std::vector<uint8_t> whole = read_file(std::string(DUALMODE_TEST_DATA) + name);
    CHECK(try_out(whole, samples));
    std::vector<uint8_t> flipped = whole;
    flipped[flipped.size() / 2] ^= 1;
    CHECK(!try_out(flipped, samples));  // the checksum
    for (size_t size = 1; size < 200; ++size) {
      std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<long>(size));
      fix_checksum(cut);
      CHECK(!try_out(cut, samples));
    }
    Random random(11);
    int opened = 0;
    for (int round = 0; round < rounds / 2; ++round) {
      std::vector<uint8_t> bytes = whole;
      const uint32_t times = 1 + random.below(3);
      for (uint32_t i = 0; i < times; ++i) damage(bytes, random);
      fix_checksum(bytes);
      opened += try_out(bytes, samples);
    }
    std::printf("%s: %d damaged, %d of them still made a model\n", name, rounds / 2, opened);
  }
  return 0;
}

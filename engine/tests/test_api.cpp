// The C API: codes, text, threads, samples of any kind.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <thread>

#include "check.h"
#include "dualmode/engine.h"

namespace {

const std::string kData = DUALMODE_TEST_DATA;

// With the kernels of the variable, as the command does, or the best ones.
dualmode_model* open(const char* name) {
  dualmode_model* model = nullptr;
  dualmode_error error;
  const char* kernels = std::getenv("DUALMODE_ENGINE_KERNELS");
  const int code = dualmode_open((kData + name).c_str(), kernels, &model, &error);
  if (code != DUALMODE_OK) std::fprintf(stderr, "%s\n", error.message);
  CHECK(code == DUALMODE_OK);
  return model;
}

std::string whole(dualmode_model* model, const std::vector<float>& samples) {
  dualmode_stream* stream = nullptr;
  dualmode_text text;
  dualmode_error error;
  CHECK(dualmode_transcribe(model, nullptr, samples.data(), samples.size(), &stream, &text,
                            &error) == DUALMODE_OK);
  const std::string found = text.text;
  dualmode_stream_free(stream);
  return found;
}

std::string in_pieces(dualmode_stream* stream, const std::vector<float>& samples, uint32_t seed) {
  Random random(seed);
  dualmode_text text;
  dualmode_error error;
  for (size_t at = 0; at < samples.size();) {
    const size_t count = std::min<size_t>(random.below(5000), samples.size() - at);
    int changed = 0;
    CHECK(dualmode_stream_push(stream, &samples[at], count, &changed, &error) == DUALMODE_OK);
    CHECK(dualmode_stream_partial(stream, &text, &error) == DUALMODE_OK);
    CHECK(text.stable_words <= text.word_count);
    at += count;
  }
  CHECK(dualmode_stream_finish(stream, &text, &error) == DUALMODE_OK);
  return text.text;
}

void texts_are_those_of_python() {
  std::vector<uint8_t> expected = read_file(kData + "/expected.txt");
  const std::string text(expected.begin(), expected.end());
  const std::vector<float> samples = babble(6.0, 1);
  std::string found;
  for (const char* name : {"/device-fp32.dual", "/server-fp32.dual", "/device-fp32-80ms.dual",
                           "/server-fp32-80ms.dual"}) {
    dualmode_model* model = open(name);
    found += whole(model, samples) + "\n";
    dualmode_close(model);
  }
  CHECK(found == text);
}

void frames_of_80_ms_last_80_ms() {
  dualmode_model* model = open("/device-fp32-80ms.dual");
  dualmode_error error;
  dualmode_description described;
  CHECK(dualmode_describe(model, &described, &error) == DUALMODE_OK);
  CHECK(described.version == 2 && described.frame_ms == 80);
  const std::vector<float> samples = babble(6.0, 1);
  const std::string expected = whole(model, samples);
  for (uint32_t seed = 0; seed < 3; ++seed) {
    dualmode_options options;
    dualmode_default_options(&options);
    options.endpointing = 0;
    dualmode_stream* stream = nullptr;
    CHECK(dualmode_stream_new(model, &options, &stream, &error) == DUALMODE_OK);
    CHECK(in_pieces(stream, samples, seed) == expected);
    CHECK(dualmode_stream_reset(stream, &error) == DUALMODE_OK);
    dualmode_text text;
    int changed = 0;
    CHECK(dualmode_stream_push(stream, samples.data(), samples.size(), &changed, &error) ==
          DUALMODE_OK);
    CHECK(dualmode_stream_partial(stream, &text, &error) == DUALMODE_OK);
    CHECK(text.word_count > 0);
    for (size_t i = 0; i < text.word_count; ++i) {
      const double frames = text.words[i].start_s / 0.08;
      CHECK(std::abs(frames - std::round(frames)) < 1e-6);
    }
    dualmode_stream_free(stream);
  }
  dualmode_close(model);
  model = open("/device-fp32.dual");
  CHECK(dualmode_describe(model, &described, &error) == DUALMODE_OK);
  CHECK(described.version == 1 && described.frame_ms == 40);
  dualmode_close(model);
}

void codes() {
  dualmode_error error;
  dualmode_model* model = nullptr;
  CHECK(dualmode_open("no such file", nullptr, &model, &error) == DUALMODE_CANNOT_OPEN);
  CHECK(dualmode_open(nullptr, nullptr, &model, nullptr) == DUALMODE_INVALID_ARGUMENT);
  CHECK(dualmode_open((kData + "/expected.txt").c_str(), nullptr, &model, &error) ==
        DUALMODE_BAD_ARTIFACT);
  CHECK(dualmode_open((kData + "/device-int8.dual").c_str(), "abacus", &model, &error) ==
        DUALMODE_UNSUPPORTED);
  CHECK(model == nullptr);
  model = open("/device-int8.dual");
  dualmode_stream* stream = nullptr;
  CHECK(dualmode_stream_new(model, nullptr, &stream, &error) == DUALMODE_OK);
  dualmode_close(model);  // the stream keeps the model's memory
  const float bad[] = {0.0f, std::numeric_limits<float>::quiet_NaN(),
                       std::numeric_limits<float>::infinity()};
  CHECK(dualmode_stream_push(stream, bad, 3, nullptr, &error) == DUALMODE_BAD_SAMPLES);
  CHECK(dualmode_stream_push(stream, nullptr, 0, nullptr, &error) == DUALMODE_OK);
  CHECK(dualmode_stream_push(stream, nullptr, 1, nullptr, &error) == DUALMODE_INVALID_ARGUMENT);
  const std::vector<float> samples = babble(3.0, 9);
  const std::string once = in_pieces(stream, samples, 1);
  dualmode_text text;
  CHECK(dualmode_stream_finish(stream, &text, &error) == DUALMODE_FINISHED);
  CHECK(dualmode_stream_push(stream, bad, 1, nullptr, &error) == DUALMODE_FINISHED);
  CHECK(dualmode_stream_reset(stream, &error) == DUALMODE_OK);
  CHECK(in_pieces(stream, samples, 2) == once);
  dualmode_stream_free(stream);
  dualmode_stream_free(nullptr);
  dualmode_close(nullptr);
  dualmode_model* server = open("/server-fp32.dual");
  CHECK(dualmode_stream_new(server, nullptr, &stream, &error) == DUALMODE_UNSUPPORTED);
  dualmode_close(server);
}

void integers_equal_floats() {
  dualmode_model* model = open("/device-int8.dual");
  dualmode_error error;
  std::vector<int16_t> integers(50000);
  std::vector<float> floats(integers.size());
  Random random(4);
  for (size_t i = 0; i < integers.size(); ++i) {
    integers[i] = static_cast<int16_t>(i / (20 + i / 5000) % 2 ? random.below(9000) : -3000);
    floats[i] = static_cast<float>(integers[i]) / 32768.0f;
  }
  dualmode_stream* stream = nullptr;
  CHECK(dualmode_stream_new(model, nullptr, &stream, &error) == DUALMODE_OK);
  CHECK(dualmode_stream_push_int16(stream, integers.data(), integers.size(), nullptr, &error) ==
        DUALMODE_OK);
  dualmode_text text;
  CHECK(dualmode_stream_finish(stream, &text, &error) == DUALMODE_OK);
  CHECK(whole(model, floats) == text.text);
  dualmode_stream_free(stream);
  dualmode_close(model);
}

void strange_sounds() {
  dualmode_model* model = open("/device-int8.dual");
  std::vector<std::vector<float>> sounds = {{}, {0.5f}, std::vector<float>(100, 1.0f)};
  sounds.push_back(std::vector<float>(1000000, 0.0f));
  Random random(8);
  for (float size : {1e-30f, 1e10f, 1e38f}) {
    std::vector<float> samples(20000);
    for (float& sample : samples) sample = size * random.uniform();
    sounds.push_back(samples);
  }
  for (const auto& samples : sounds) whole(model, samples);
  dualmode_close(model);
}

void many_at_once() {
  dualmode_model* model = open("/device-int8.dual");
  dualmode_error error;
  dualmode_stream* streams[3];
  std::vector<std::vector<float>> audio;
  const float* pointers[3];
  size_t counts[3];
  for (uint32_t i = 0; i < 3; ++i) {
    audio.push_back(babble(1.0 + i, i + 20));
    CHECK(dualmode_stream_new(model, nullptr, &streams[i], &error) == DUALMODE_OK);
    pointers[i] = audio[i].data();
    counts[i] = audio[i].size();
  }
  int changed[] = {-1, -1, -1};
  CHECK(dualmode_streams_push(streams, pointers, counts, 3, changed, &error) == DUALMODE_OK);
  dualmode_stream* twice[] = {streams[0], streams[0]};
  CHECK(dualmode_streams_push(twice, pointers, counts, 2, nullptr, &error) ==
        DUALMODE_INVALID_ARGUMENT);
  for (uint32_t i = 0; i < 3; ++i) {
    dualmode_text text;
    CHECK(dualmode_stream_partial(streams[i], &text, &error) == DUALMODE_OK);
    CHECK(changed[i] == (text.word_count > 0));
    CHECK(dualmode_stream_finish(streams[i], &text, &error) == DUALMODE_OK);
    CHECK(whole(model, audio[i]) == text.text);
    dualmode_stream_free(streams[i]);
  }
  dualmode_close(model);
}

#if !defined(__EMSCRIPTEN__)
void paths_are_utf8() {
  const std::string name = "dualmode-\xc3\xa9\xe6\x9d\xb1.dual";  // two bytes, then three
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / std::filesystem::u8path(name);
  std::filesystem::copy_file(kData + "/device-int8.dual", path,
                             std::filesystem::copy_options::overwrite_existing);
  dualmode_model* model = nullptr;
  dualmode_error error;
  const int code = dualmode_open(path.u8string().c_str(), nullptr, &model, &error);
  dualmode_close(model);
  std::filesystem::remove(path);
  CHECK(code == DUALMODE_OK);
}

void threads_share_a_model() {
  dualmode_model* model = open("/device-int8.dual");
  const std::vector<float> samples = babble(2.0, 6);
  const std::string expected = whole(model, samples);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      dualmode_stream* stream = nullptr;
      dualmode_error error;
      CHECK(dualmode_stream_new(model, nullptr, &stream, &error) == DUALMODE_OK);
      CHECK(in_pieces(stream, samples, i) == expected);
      dualmode_stream_free(stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
  dualmode_close(model);
}
#endif

}  // namespace

int main() {
  texts_are_those_of_python();
  frames_of_80_ms_last_80_ms();
  codes();
  integers_equal_floats();
  strange_sounds();
  many_at_once();
#if !defined(__EMSCRIPTEN__)
  paths_are_utf8();
  threads_share_a_model();
#endif
  std::printf("C API: ok with %s\n", dualmode_kernel_names());
  return 0;
}

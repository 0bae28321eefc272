// The command dualmode-engine: transcribe files, stream from standard input, measure, describe.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
// After windows.h.
#include <fcntl.h>
#include <io.h>
#include <shellapi.h>
#endif

#include "bench.h"
#include "handles.h"
#include "wav.h"

namespace {

constexpr char kUsage[] =
    "usage: dualmode-engine COMMAND MODEL.dual [FILE.wav ...] [options]\n"
    "\n"
    "  transcribe MODEL FILE...   print the text of WAV files (16 kHz)\n"
    "  stream MODEL               16-bit mono PCM at 16 kHz from standard input; partials grow\n"
    "                             on one line, finished segments stay\n"
    "  bench MODEL [FILE]         real-time factor, step time, memory, as JSON\n"
    "  describe MODEL             contents of the file, as JSON\n"
    "\n"
    "  --words          times and confidences, one word per line\n"
    "  --beam N         modified beam search with N hypotheses, 1 to 8 (1: greedy)\n"
    "  --seconds S      duration of synthetic audio for bench (60)\n"
    "  --kernels NAME   a name that describe lists; also DUALMODE_ENGINE_KERNELS\n";

struct Arguments {
  std::string command, model, kernels;
  std::vector<std::string> files;
  dualmode_options options;
  double seconds = 60.0;
  bool words = false;
};

// What follows the name of the program, in UTF-8.
std::vector<std::string> given(int count, [[maybe_unused]] char** values) {
#if defined(_WIN32)
  // `values` has the code page of the system, which may lack characters of a path.
  SetConsoleOutputCP(CP_UTF8);
  LPWSTR* const wide = CommandLineToArgvW(GetCommandLineW(), &count);
  if (wide == nullptr) throw std::runtime_error("the arguments cannot be read");
  std::vector<std::string> arguments;
  for (int i = 1; i < count; ++i) {
    const int bytes = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, nullptr, 0, nullptr, nullptr);
    std::string argument(static_cast<size_t>(bytes), '\0');
    WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, argument.data(), bytes, nullptr, nullptr);
    argument.pop_back();  // the zero at the end
    arguments.push_back(argument);
  }
  LocalFree(wide);
  return arguments;
#else
  return std::vector<std::string>(values + std::min(count, 1), values + count);
#endif
}

Arguments parse(const std::vector<std::string>& values) {
  Arguments a;
  dualmode_default_options(&a.options);
  if (const char* chosen = std::getenv("DUALMODE_ENGINE_KERNELS")) a.kernels = chosen;
  std::vector<std::string> places;
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& value = values[i];
    const auto next = [&] {
      if (i + 1 == values.size()) throw std::runtime_error(value + " needs a value");
      return values[++i];
    };
    if (value == "--words") {
      a.words = true;
    } else if (value == "--beam") {
      a.options.beam_width = static_cast<uint32_t>(std::strtoul(next().c_str(), nullptr, 10));
    } else if (value == "--seconds") {
      a.seconds = std::strtod(next().c_str(), nullptr);
    } else if (value == "--kernels") {
      a.kernels = next();
    } else if (value.size() > 1 && value[0] == '-') {
      throw std::runtime_error("no option " + value);
    } else {
      places.push_back(value);
    }
  }
  if (places.size() < 2) throw std::runtime_error("a command and a model are needed");
  a.command = places[0];
  a.model = places[1];
  a.files.assign(places.begin() + 2, places.end());
  return a;
}

void print(const dualmode_text& text, bool words) {
  if (!words) {
    std::printf("%s\n", text.text);
    return;
  }
  for (size_t i = 0; i < text.word_count; ++i) {
    const dualmode_word& w = text.words[i];
    std::printf("%7.2f %7.2f %5.2f %s\n", w.start_s, w.end_s, w.confidence, w.text);
  }
}

void transcribe(const Arguments& a, const ModelHandle& model) {
  if (a.files.empty()) throw std::runtime_error("transcribe needs WAV files");
  for (const std::string& file : a.files) {
    const std::vector<float> samples = read_wav(file);
    dualmode_stream* stream = nullptr;
    dualmode_text text;
    dualmode_error error;
    check(dualmode_transcribe(model.get(), &a.options, samples.data(), samples.size(), &stream,
                              &text, &error),
          error);
    const StreamHandle owner(stream);
    if (a.files.size() > 1) std::printf("%s\t", file.c_str());
    print(text, a.words);
  }
}

void print_segments(dualmode_stream* stream, bool words) {
  dualmode_text text;
  dualmode_error error;
  for (int there = 1;;) {
    check(dualmode_stream_segment(stream, &text, &there, &error), error);
    if (!there) return;
    std::printf("\r\033[K");
    print(text, words);
  }
}

void stream_input(const Arguments& a, const ModelHandle& model) {
#if defined(_WIN32)
  _setmode(_fileno(stdin), _O_BINARY);
#endif
  dualmode_options options = a.options;
  options.keep_finished = 0;
  const StreamHandle stream = new_stream(model, options);
  dualmode_text text;
  dualmode_error error;
  int16_t samples[1600];
  for (size_t count; (count = std::fread(samples, sizeof samples[0], 1600, stdin)) > 0;) {
    int changed = 0;
    check(dualmode_stream_push_int16(stream.get(), samples, count, &changed, &error), error);
    if (!changed) continue;
    print_segments(stream.get(), a.words);
    check(dualmode_stream_partial(stream.get(), &text, &error), error);
    std::printf("\r\033[K%s", text.text);
    std::fflush(stdout);
  }
  std::printf("\r\033[K");
  check(dualmode_stream_finish(stream.get(), &text, &error), error);
  if (text.word_count > 0) print(text, a.words);
}

void describe(const ModelHandle& model) {
  const dualmode_description d = description_of(model);
  std::printf("{\"version\": %u, \"bytes\": %llu, \"state_bytes\": %llu, \"streams\": %s, "
              "\"chunk_ms\": %u, \"left_ms\": %u, \"lookahead_ms\": %u, \"kernels\": \"%s\", "
              "\"kernels_here\": \"%s\", \"card\": %s}\n",
              d.version, static_cast<unsigned long long>(d.artifact_bytes),
              static_cast<unsigned long long>(d.state_bytes), d.streams ? "true" : "false",
              d.chunk_frames * d.frame_ms, d.left_frames * d.frame_ms,
              d.lookahead_frames * d.frame_ms, d.kernels,
              dualmode_kernel_names(), d.card);
}

}  // namespace

int main(int count, char** values) {
  try {
    const std::vector<std::string> arguments = given(count, values);
    if (arguments.empty() || arguments[0] == "--help") {
      std::fputs(kUsage, arguments.empty() ? stderr : stdout);
      return arguments.empty() ? 2 : 0;
    }
    const Arguments a = parse(arguments);
    if (a.command == "bench") {
      bench(a.model.c_str(), a.kernels.c_str(), a.seconds, a.files.empty() ? "" : a.files[0]);
      return 0;
    }
    const ModelHandle model = open_model(a.model.c_str(), a.kernels.c_str());
    if (a.command == "transcribe") {
      transcribe(a, model);
    } else if (a.command == "stream") {
      stream_input(a, model);
    } else if (a.command == "describe") {
      describe(model);
    } else {
      throw std::runtime_error("no command " + a.command + ": see dualmode-engine --help");
    }
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

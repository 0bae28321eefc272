#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include "handles.h"
#include "wav.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

double since_ms(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Processor time of this thread, which does not include waiting for a core.
double computed_ms() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
#else
  return static_cast<double>(std::clock()) * 1e3 / CLOCKS_PER_SEC;
#endif
}

// Peak resident memory of this process, including the parts of the artifact that were read.
double peak_mb() {
#if defined(__linux__)
  // Unlike getrusage, this does not count the process that started this one.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::strtod(line.c_str() + 6, nullptr) * 1024 / 1e6;
  }
  return 0.0;
#elif defined(__unix__) || defined(__APPLE__)
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
  return static_cast<double>(usage.ru_maxrss) / 1e6;
#else
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
#endif
#else
  return 0.0;
#endif
}

// Tones whose pitch and loudness change every 150 ms, with noise.
std::vector<float> babble(size_t count) {
  std::vector<float> samples(count);
  unsigned state = 1;
  const auto random = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<double>(state >> 8) / 16777216.0;
  };
  double pitch = 0.0, loudness = 0.0, phase = 0.0;
  for (size_t i = 0; i < count; ++i) {
    if (i % 2400 == 0) {
      pitch = 100.0 + 2900.0 * random();
      loudness = 0.3 * random();
    }
    phase += pitch * 6.283185307179586 / 16000.0;
    samples[i] = static_cast<float>(loudness * (std::sin(phase) + 0.3 * (random() - 0.5)));
  }
  return samples;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  return values[std::min(values.size() - 1,
                         static_cast<size_t>(share * static_cast<double>(values.size())))];
}

}  // namespace

void bench(const char* path, const char* kernels, double seconds, const std::string& wav) {
  const double before_mb = peak_mb();
  const auto start = Clock::now();
  const ModelHandle model = open_model(path, kernels);
  const double open_ms = since_ms(start);
  const dualmode_description d = description_of(model);
  if (d.streams == 0) throw std::runtime_error("this model has full context: bench streams");
  std::vector<float> samples =
      wav.empty() ? babble(static_cast<size_t>(seconds * 16000.0)) : read_wav(wav);
  const size_t chunk = size_t{d.chunk_frames} * d.frame_ms * 16;
  dualmode_options options;
  dualmode_default_options(&options);
  const StreamHandle stream = new_stream(model, options);
  dualmode_error error;
  std::vector<double> steps_ms;
  double total_ms = 0.0, first_step_ms = 0.0, first_partial_ms = -1.0;
  const auto began = Clock::now();
  for (size_t at = 0; at + chunk <= samples.size(); at += chunk) {
    int changed = 0;
    const double from = computed_ms();
    check(dualmode_stream_push(stream.get(), &samples[at], chunk, &changed, &error), error);
    const double step = computed_ms() - from;
    total_ms += step;
    if (at / chunk >= 3) steps_ms.push_back(step);  // the first windows fill and warm up
    if (at / chunk == 1) first_step_ms = since_ms(began);
    if (changed && first_partial_ms < 0) {
      first_partial_ms = static_cast<double>(at + chunk) / 16.0 + step;
    }
  }
  const double audio_ms = static_cast<double>(samples.size() / chunk * chunk) / 16.0;
  std::printf("{\"kernels\": \"%s\", \"artifact_bytes\": %llu, \"state_bytes\": %llu, "
              "\"open_ms\": %.3f, \"chunk_ms\": %u, \"step_median_ms\": %.3f, "
              "\"step_p99_ms\": %.3f, \"step_min_ms\": %.3f, \"real_time_factor\": %.5f, "
              "\"first_step_ms\": %.3f, \"first_partial_ms\": %.1f, \"peak_mb\": %.2f, "
              "\"peak_before_open_mb\": %.2f}\n",
              d.kernels, static_cast<unsigned long long>(d.artifact_bytes),
              static_cast<unsigned long long>(d.state_bytes), open_ms, d.chunk_frames * d.frame_ms,
              quantile(steps_ms, 0.5), quantile(steps_ms, 0.99), quantile(steps_ms, 0.0),
              total_ms / audio_ms, first_step_ms, first_partial_ms, peak_mb(), before_mb);
}

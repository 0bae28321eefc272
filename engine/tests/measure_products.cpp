// Speed of the int8 products, as shares of what the processor can do: not a test, but a program
// that prints a table. Times are processor time of this thread; each round runs every row once, and
// shares are medians of the ratios in a round, because load on the machine affects a whole round.
#include <algorithm>
#include <ctime>
#include <functional>
#include <string>

#include "check.h"
#include "kernels/kernels.h"
#include "products.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define DUALMODE_AVX2_LIMITS
#define AVX2 __attribute__((target("avx2")))
#endif

using namespace dualmode;

namespace {

constexpr uint32_t kOutputs = 512, kInputs = 2048;
constexpr int kRounds = 60;

double thread_s() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// A row of the table: something that runs, and how many multiply-adds or bytes it counts.
struct Row {
  std::string name;
  double amount;
  std::function<void()> run;
  std::vector<double> rates;  // giga a second
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double share(const Row& row, const Row& limit) {
  std::vector<double> ratios;
  for (size_t i = 0; i < row.rates.size(); ++i) ratios.push_back(row.rates[i] / limit.rates[i]);
  return median(ratios);
}

#if defined(DUALMODE_AVX2_LIMITS)

volatile int32_t sink;

AVX2 void keep(const __m256i* sums, size_t count) {
  __m256i total = sums[0];
  for (size_t i = 1; i < count; ++i) total = _mm256_add_epi32(total, sums[i]);
  sink = _mm256_extract_epi32(total, 0);
}

constexpr size_t kTurns = 40000;
constexpr double kTurnAmount = 12.0 * 16.0 * kTurns;

// vpmaddwd and vpaddd on registers alone, twelve sums at a time as in a product of 24 lanes.
AVX2 void multiply_registers() {
  __m256i sums[12] = {}, x = _mm256_set1_epi16(3), w = _mm256_set1_epi16(5);
  for (size_t turn = 0; turn < kTurns; ++turn) {
    for (__m256i& sum : sums) {
      asm volatile("" : "+x"(x));  // or the compiler would multiply once for all sums
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
    }
  }
  keep(sums, 12);
}

// The same, with a broadcast of a pair of weights from memory for every three sums.
AVX2 void multiply_broadcasts() {
  static int32_t weights[64] = {1, 2, 3, 4};
  __m256i sums[12] = {}, x[3] = {_mm256_set1_epi16(3), _mm256_set1_epi16(4), _mm256_set1_epi16(5)};
  for (size_t turn = 0; turn < kTurns; ++turn) {
    asm volatile("" : "+x"(x[0]), "+x"(x[1]), "+x"(x[2]), "+m"(weights));
    for (size_t o = 0; o < 4; ++o) {
      const __m256i w = _mm256_set1_epi32(weights[(turn * 4 + o) % 64]);
      for (size_t v = 0; v < 3; ++v) {
        sums[o * 3 + v] = _mm256_add_epi32(sums[o * 3 + v], _mm256_madd_epi16(x[v], w));
      }
    }
  }
  keep(sums, 12);
}

// Reads memory and adds, to find its bandwidth.
AVX2 void read(const std::vector<int32_t>& memory) {
  __m256i sums[8] = {};
  for (size_t i = 0; i + 64 <= memory.size(); i += 64) {
    for (size_t v = 0; v < 8; ++v) {
      const auto* at = reinterpret_cast<const __m256i*>(&memory[i + v * 8]);
      sums[v] = _mm256_add_epi32(sums[v], _mm256_loadu_si256(at));
    }
  }
  keep(sums, 8);
}

#endif

// A product of `frames` frames. It counts multiply-adds of weights that are kept and frames that
// exist; lanes are a multiple of eight.
struct Case {
  Weights weights;
  size_t frames, lanes;
  std::vector<uint8_t> activations;
  std::vector<float> scale, y;

  Case(const Kernels& kernels, Weights w, size_t count)
      : weights(std::move(w)), frames(count), lanes((count + 7) / 8 * 8) {
    const Matrix& m = weights.matrix;
    Random random(3);
    const auto x = random_floats(random, m.inputs * lanes);
    activations.resize(m.inputs * lanes * kernels.activation_bytes + kSlackBytes);
    scale.resize(lanes);
    y.resize(m.outputs * lanes);
    kernels.quantize(x.data(), m.inputs, lanes, lanes, activations.data(), scale.data());
  }

  double amount() const {
    return static_cast<double>(weights.matrix.begin.back()) * 32.0 * static_cast<double>(frames);
  }

  void run(const Kernels& kernels) {
    const Matrix& m = weights.matrix;
    kernels.product_int8({&m, activations.data(), lanes, lanes, scale.data(), y.data(), lanes,
                          Finish::kStore, 1.0f, lanes - frames >= 4 ? lanes : 0});
  }
};

std::string label(const char* what, size_t frames) {
  return std::string(what) + ", " + std::to_string(frames) + " frames";
}

void measure(std::vector<Row>& rows) {
  for (int round = 0; round < kRounds; ++round) {
    for (Row& row : rows) {
      const double start = thread_s();
      size_t runs = 0;
      do {
        row.run();
        ++runs;
      } while (thread_s() - start < 5e-4);
      row.rates.push_back(row.amount * static_cast<double>(runs) * 1e-9 / (thread_s() - start));
    }
  }
}

}  // namespace

int main(int count, char** values) {
  const Kernels& kernels = choose_kernels(count > 1 ? values[1] : "");
  std::vector<Row> rows;
#if defined(DUALMODE_AVX2_LIMITS)
  const bool limits = std::string(kernels.name) == "avx2";
  const std::vector<int32_t> near(1 << 15, 1), far(1 << 20, 1);  // 128 KiB, 4 MiB
  if (limits) {
    rows.push_back({"vpmaddwd and vpaddd on registers", kTurnAmount, multiply_registers, {}});
    rows.push_back({"the same, weights broadcast from L1", kTurnAmount, multiply_broadcasts, {}});
    rows.push_back({"reading 128 KiB, GB/s", 131072.0, [&] { read(near); }, {}});
    rows.push_back({"reading 4 MiB, GB/s", 4194304.0, [&] { read(far); }, {}});
  }
#else
  const bool limits = false;
#endif
  // A block-sparse matrix gathers its columns; a narrow dense one has as many weights in a row.
  std::vector<Case> cases;
  cases.reserve(9);
  const size_t first = rows.size();
  for (size_t frames : {8, 16, 20}) {
    Random random(1);
    const uint32_t kept = kInputs * 3 / 10;
    const auto add = [&](const char* what, Weights weights) {
      cases.emplace_back(kernels, std::move(weights), frames);
      Case& one = cases.back();
      rows.push_back({label(what, frames), one.amount(), [&one, &kernels] { one.run(kernels); }, {}});
    };
    add("dense 512x2048", matrix_keeping(random, kOutputs, kInputs, kInputs));
    add("70 % sparse 512x2048", matrix_keeping(random, kOutputs, kInputs, kept));
    add("dense 512x614", matrix_keeping(random, kOutputs, kept, kept));
  }
  measure(rows);
  std::printf("kernels %s; G multiply-adds/s of kept weights and frames\n", kernels.name);
  for (size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    std::printf("%-38s %7.1f", row.name.c_str(), median(row.rates));
    if (limits && i < 2) std::printf("  %5.2f of registers", share(row, rows[0]));
    if (i >= first) {
      const Case& one = cases[i - first];
      // Weights are read once for each run of up to 24 lanes, that is once.
      Row bytes = row;
      for (double& rate : bytes.rates) rate /= static_cast<double>(one.frames);
      std::printf("  %5.2f of lanes", static_cast<double>(one.frames) / static_cast<double>(one.lanes));
      if (limits) {
        std::printf("  %5.2f of registers  %5.2f GB/s of weights: %5.2f of reading 4 MiB",
                    share(row, rows[0]), median(bytes.rates), share(bytes, rows[3]));
      }
    }
    std::printf("\n");
  }
  return 0;
}

// WAV files as mono samples at 16 kHz.
#pragma once

#include <string>
#include <vector>

// Samples in [-1, 1], channels averaged. Throws std::runtime_error if the file is not WAV, is
// truncated, has another rate than 16 kHz, or an encoding other than 8 to 32-bit PCM and float.
std::vector<float> read_wav(const std::string& path);

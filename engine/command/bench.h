// Measures the speed and memory of a model on this machine.
#pragma once

#include <string>

// Stream `seconds` of sound (of `wav`, or synthetic) and print the figures as one JSON object.
void bench(const char* path, const char* kernels, double seconds, const std::string& wav);

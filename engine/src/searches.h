// The searches by name, for search.h's make_search.
#pragma once

#include "search.h"

namespace dualmode {

std::unique_ptr<Search> make_greedy(const Settings& settings);
std::unique_ptr<Search> make_beam(const Settings& settings, uint32_t width);

}  // namespace dualmode

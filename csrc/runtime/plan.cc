// SPDX-License-Identifier: MIT
// Divides sequences where every member of the team gets a whole tile of them, else units where a
// step has enough of them to pay for its barriers, else what sequences there are.
#include "plan.h"

#include <algorithm>

#include "thread_count.h"

namespace pygru {
namespace {

// The least work between two barriers, where units are divided.
constexpr double kLeastStep = 1e5;

}  // namespace

Plan plan_layer(const KernelTable& table, Shape s, double steps, int gates, std::size_t runs,
                Index most) {
  const Index rows = table.tile_rows, lanes = table.lanes_f32;
  const double per_step = 2.0 * gates * static_cast<double>(s.H) * static_cast<double>(s.I + s.H);
  const double work = steps * per_step;
  const bool together = runs == 2 && most >= 2 && work >= kLeastWork;
  const double operations = together ? 2 * work : work;
  const Index size =
      std::clamp<Index>(static_cast<Index>(work / kLeastWork), 1, together ? most / 2 : most);
  if (size == 1 || s.B >= rows * size) return {size, Split::sequences, together, operations};
  const Index by_units = std::min<Index>(size, s.H / (4 * lanes));
  if (by_units > 1 &&
      per_step * static_cast<double>(s.B) / static_cast<double>(by_units) >= kLeastStep)
    return {by_units, Split::units, together, operations};
  return {std::max<Index>(1, std::min(size, s.B)), Split::sequences, together, operations};
}

Plan plan_rows(double operations) {
  const auto worth = static_cast<Index>(operations / kLeastWork);
  return {.size = std::clamp<Index>(worth, 1, num_threads()), .operations = operations};
}

}  // namespace pygru

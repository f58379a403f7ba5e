// SPDX-License-Identifier: MIT
// Divides sequences where they fill the registers of every member of the team evenly or many times
// over, else units where a step has enough work to pay for its barriers, else what sequences there
// are.
#include "plan.h"

#include <algorithm>
#include <numeric>

#include "thread_count.h"

namespace pygru {
namespace {

// The least work of a member between two barriers, on average, where units are divided: where
// sequences are too few for the team, and where they would make uneven parts.
constexpr double kLeastStep = 1e5, kLeastStepIfUneven = 2.5e5;

// Registers of units that a member has at least where units are divided.
constexpr Index kLeastRegisters = 4;

// Parts of sequences that fill the registers so many times are even enough.
constexpr Index kManyTimes = 4;

}  // namespace

double cell_work(int gates, Shape s) {
  const double unit = gates * (2 * static_cast<double>(s.I + s.H) + kFunctionWork);
  const double units = static_cast<double>(s.B) * static_cast<double>(s.H);
  return static_cast<double>(s.T) * (kStepWork + units * unit);
}

double linear_work(Index N, Index K, Index M) {
  const double products = static_cast<double>(K) * static_cast<double>(M);
  return static_cast<double>(N) * (kLinearRowWork + 2 * products);
}

double row_work(Index N, Index K) {
  return static_cast<double>(N) * (kRowWork + kFunctionWork * static_cast<double>(K));
}

Plan plan_layer(const KernelTable& table, Shape s, double steps, int gates, std::size_t runs,
                Index most) {
  const Index rows = table.register_rows, lanes = table.lanes_f32;
  const double each = 2.0 * gates * static_cast<double>(s.H) * static_cast<double>(s.I + s.H);
  const double per_step = each * static_cast<double>(s.B), work = steps * each;
  const bool together = runs == 2 && most >= 2 && work >= kLeastWork;
  const Index size =
      std::clamp<Index>(static_cast<Index>(work / kLeastWork), 1, together ? most / 2 : most);
  const auto plan = [&](Index team, Split split) -> Plan {
    return {team, split, together, per_step, together ? 2 * work : work};
  };
  const Index at_once = rows * size;  // sequences in the registers of all members
  const bool enough = s.B >= at_once;
  const bool evenly = s.B % at_once == 0 || s.B >= kManyTimes * at_once;
  const Index by_units = std::min<Index>(size, s.H / (kLeastRegisters * lanes));
  const double step = work / static_cast<double>(std::max<Index>(1, s.T * by_units));
  const bool units = enough ? !evenly && by_units == size && step >= kLeastStepIfUneven
                            : by_units > 1 && step >= kLeastStep;
  if (size > 1 && units) return plan(by_units, Split::units);
  return plan(std::max<Index>(1, std::min(size, s.B)), Split::sequences);
}

double steps_of(Shape s, const Index* length) {
  return static_cast<double>(length ? std::accumulate(length, length + s.B, Index{0}) : s.T * s.B);
}

void cut_sequences(const KernelTable& table, Shape s, const Lengths& lengths, Index team_size,
                   Index* cuts) {
  const double share = steps_of(s, lengths.length) / static_cast<double>(team_size);
  const Index rows = s.B >= table.register_rows * team_size ? table.register_rows / 2 : 1;
  const auto steps = [&](Index b) {  // of the next few sequences
    Index sum = 0;
    for (const Index end = b + rows; b < end; ++b) sum += lengths.of(lengths.row(b), s.T);
    return static_cast<double>(sum);
  };
  double done = 0;
  Index b = 0;
  cuts[0] = 0;
  for (Index member = 1; member < team_size; ++member) {
    for (; b + rows <= s.B && done + steps(b) / 2 < share * static_cast<double>(member); b += rows)
      done += steps(b);
    cuts[member] = b;
  }
  cuts[team_size] = s.B;
}

Plan plan_linear(Index N, Index K, Index M, int products) {
  const double per_row = 2.0 * products * static_cast<double>(K) * static_cast<double>(M);
  const double operations = static_cast<double>(N) * per_row;
  const auto worth = static_cast<Index>(operations / kLeastWork);
  return {.size = std::clamp<Index>(worth, 1, num_threads()),
          .per_step = per_row,
          .operations = operations};
}

}  // namespace pygru

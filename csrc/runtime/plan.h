// SPDX-License-Identifier: MIT
// How many threads a call gets and what they divide. The result of a call does not depend on it.
#pragma once

#include <cstddef>

#include "../kernels/kernel_table.h"

namespace pygru {

// A member of a team should have at least this much to do, or calling it costs more than it brings.
constexpr double kLeastWork = 1e6;  // floating-point operations, about 15 us

// A call of less than this keeps the GIL: about a microsecond, no more than giving it up and taking
// it back costs where another thread wants it.
constexpr double kBriefWork = kLeastWork / 15;

// What a small call takes, as floating-point operations of the same time (measured, Zen 3): e^x and
// what comes with it, a row of a Linear, a row of softmax or LayerNorm, a step of the time loop.
constexpr double kFunctionWork = 32, kLinearRowWork = 250, kRowWork = 3000, kStepWork = 6000;

// That of all steps of a layer in one direction, of N rows of a Linear, and of N rows of K values
// each of which meets all others of its row.
double cell_work(int gates, Shape shape);
double linear_work(Index N, Index K, Index M);
double row_work(Index N, Index K);

// How the runs of one call share the threads: each has a team of `size`, and two may work at once.
struct Plan {
  Index size = 1;
  Split split = Split::sequences;
  bool together = false;
  double per_step = 0;    // floating-point operations: of a step of all sequences, or of a row
  double operations = 0;  // of all at once
};

// `steps`: of all sequences together; `runs`: directions of the layer; `most`: threads there are.
Plan plan_layer(const KernelTable& table, Shape shape, double steps, int gates, std::size_t runs,
                Index most);

// Steps of all sequences together; `length` is (B,) or null.
double steps_of(Shape shape, const Index* length);

// Cuts the sequences, the longest first, so that each member of a team has about as many steps:
// between any two where they have not `register_rows` each, else at multiples of half as many.
// `cuts` is (team_size + 1,).
void cut_sequences(const KernelTable& table, Shape shape, const Lengths& lengths, Index team_size,
                   Index* cuts);

// A team for `products` products of N rows of a Linear, which divide into any number of parts.
Plan plan_linear(Index N, Index K, Index M, int products = 1);

}  // namespace pygru

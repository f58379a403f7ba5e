// SPDX-License-Identifier: MIT
// Runs a layer: packs its weights, finds memory, divides the work, and calls the kernels.
#pragma once

#include <vector>

#include "../kernels/kernel_table.h"

namespace pygru {

// One direction of a layer. What the caller leaves out (packed, scratch, cuts, split, the sorted
// lengths) is filled in here.
template <class Real>
struct ForwardRun {
  Weights<Real> weights;
  Forward<Real> args;
};
template <class Real>
struct BackwardRun {
  Weights<Real> weights;
  Backward<Real> args;
};

// `length` is (B,) or null. Directions run at the same time where there are threads for it: at most
// `most` of those that num_threads() allows.
template <class Real>
void run_forward(Cell cell, const Index* length, std::vector<ForwardRun<Real>>& runs, Index most);
template <class Real>
void run_backward(Cell cell, const Index* length, std::vector<BackwardRun<Real>>& runs, Index most);

template <class Real>
void run_linear(Linear<Real> args, Matrix<const Real> W, const Real* b);
template <class Real>
void run_linear_backward(LinearBackward<Real> args);

}  // namespace pygru

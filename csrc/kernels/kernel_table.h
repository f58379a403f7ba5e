// SPDX-License-Identifier: MIT
// What one instruction set offers: a table of function pointers, filled by kernels.cc. This file
// and args.h are all that the rest of pygru sees of the kernels.
#pragma once

#include "args.h"

namespace pygru {

enum class Cell { gru_after, gru_before, rnn_tanh, rnn_relu };
constexpr int kCells = 4;

// Of a layer; exp for its own test.
enum class Activation { exp, relu, sigmoid, softmax, tanh };
constexpr int kActivations = 5;

enum class Loss { mae, mse, huber };
constexpr int kLosses = 3;

// Every function that takes a Team is called by each of its members. *_bytes say how much memory
// the function beside it wants, with a team of that size or, where it is not asked for, of any; all
// memory is 64-byte aligned.
template <class Real>
struct CellKernels {
  int gates;  // G
  int slots;  // S, of the tape
  Index (*packed_forward_bytes)(Shape);
  void (*pack_forward)(void* packed, Shape, const Weights<Real>&, Team);
  Index (*forward_scratch_bytes)(const Forward<Real>&, Index team_size);
  void (*forward)(const Forward<Real>&, Team);
  // forward() from weights that are not packed but input-major (their row_stride is 1); without
  // lengths, T > 0, and of a team each has its units.
  Index (*few_steps_scratch_bytes)(const Forward<Real>&);
  void (*few_steps)(const Forward<Real>&, const Weights<Real>&, Team);
  Index (*packed_backward_bytes)(Shape, bool with_dx);
  void (*pack_backward)(void* packed, Shape, const Weights<Real>&, bool with_dx, Team);
  Index (*backward_scratch_bytes)(const Backward<Real>&, Index team_size);
  void (*backward)(const Backward<Real>&, Team);
};

template <class Real>
struct LinearKernels {
  Index (*packed_bytes)(Index K, Index M);
  void (*pack)(void* packed, Index K, Index M, Matrix<const Real> W, const Real* b, Team);
  void (*forward)(const Linear<Real>&, Team);
  // forward() from W that is not packed but input-major (its row_stride is 1); of a team each has
  // its outputs.
  void (*few_rows)(const Linear<Real>&, Matrix<const Real> W, const Real* b, Team);
  Index (*backward_scratch_bytes)(const LinearBackward<Real>&);
  void (*backward)(const LinearBackward<Real>&, Team);
};

template <class Real>
struct ActivationKernels {
  void (*forward)(const Rows<Real>&);
  void (*backward)(const RowsBackward<Real>&);
};

template <class Real>
struct Kernels {
  CellKernels<Real> cell[kCells];
  LinearKernels<Real> linear;
  ActivationKernels<Real> activation[kActivations];
  void (*cross_entropy)(const CrossEntropy<Real>&);
  void (*layer_norm)(const LayerNorm<Real>&);
  void (*layer_norm_backward)(const LayerNormBackward<Real>&);
  void (*adam)(const Adam<Real>&);
  // The sum of a[i] b[i], in one order on every instruction set.
  double (*dot)(const Real* a, const Real* b, Index n);
  // The sum of the losses of y - target, in the same order; writes their gradient to dy.
  double (*loss[kLosses])(const Residuals<Real>&);
  // What the machine can do, for benchmarks: `rounds` of independent multiply-adds in registers
  // (returns how many floating-point operations those were), and reading n values once (returns
  // something that depends on them).
  double (*multiply_adds)(Index rounds, Real* sink);
  Real (*read)(const Real* x, Index n);
};

struct KernelTable {
  int lanes_f32;      // of one register
  int register_rows;  // sequences whose sums are in registers at a time
  Kernels<float> f32;
  Kernels<double> f64;
};

template <class Real>
const Kernels<Real>& kernels_of(const KernelTable& table) {
  if constexpr (sizeof(Real) == sizeof(float))
    return table.f32;
  else
    return table.f64;
}

template <class Real>
const CellKernels<Real>& cell_of(const KernelTable& table, Cell cell) {
  return kernels_of<Real>(table).cell[static_cast<int>(cell)];
}

}  // namespace pygru

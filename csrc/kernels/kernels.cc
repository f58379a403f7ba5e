// SPDX-License-Identifier: MIT
// One instruction set's table. Compiled once for each, with PYGRU_TABLE naming the table:
// everything else is in an anonymous namespace, or in args.h and always inlined, so that the linker
// can't merge code of two instruction sets.
#include "few_steps.h"
#include "flat.h"
#include "gru.h"
#include "kernel_table.h"
#include "linear.h"
#include "rnn.h"
#include "rows.h"
#include "sequence.h"
#include "sequence_backward.h"

namespace {

using pygru::CellKernels;
using pygru::Kernels;

// The kernel as the table holds it: every member of a team calls it without denormal numbers.
template <auto kernel>
struct Flushed;
template <class Result, class... Arguments, Result (*kernel)(Arguments...)>
struct Flushed<kernel> {
  static Result call(Arguments... arguments) {
    const FlushDenormals while_it_runs;
    return kernel(arguments...);
  }
};
template <auto kernel>
constexpr auto flushed = Flushed<kernel>::call;

template <class Cell, class Real>
constexpr CellKernels<Real> cell_kernels() {
  return {.gates = Cell::gates,
          .slots = Cell::slots,
          .packed_forward_bytes = packed_forward_bytes<Cell, Real>,
          .pack_forward = flushed<pack_forward<Cell, Real>>,
          .forward_scratch_bytes = forward_scratch_bytes<Cell, Real>,
          .forward = flushed<forward<Cell, Real>>,
          .few_steps_scratch_bytes = few_steps_scratch_bytes<Cell, Real>,
          .few_steps = flushed<few_steps<Cell, Real>>,
          .packed_backward_bytes = packed_backward_bytes<Cell, Real>,
          .pack_backward = flushed<pack_backward<Cell, Real>>,
          .backward_scratch_bytes = backward_scratch_bytes<Cell, Real>,
          .backward = flushed<backward<Cell, Real>>};
}

template <class Real>
double multiply_adds(Index rounds, Real* sink) {
  constexpr int chains = kLatencyRows * kTileVectors;  // enough to hide the latency (simd.h)
  Vec<Real> acc[chains];
  for (int c = 0; c < chains; ++c) acc[c] = broadcast(sink[0]);
  const Vec<Real> a = broadcast(sink[1]), b = broadcast(sink[2]);
  for (Index i = 0; i < rounds; ++i)
#pragma GCC unroll 24
    for (int c = 0; c < chains; ++c) acc[c] = fma(acc[c], a, b);
  for (int c = 0; c < chains; ++c) sink[c % 3] += acc[c][0];
  return 2.0 * static_cast<double>(rounds * chains * kLanes<Real>);
}

template <class Real>
Real read(const Real* x, Index n) {
  constexpr Index chains = 8, lanes = kLanes<Real>;
  Vec<Real> acc[chains] = {};
  for (Index i = 0; i + chains * lanes <= n; i += chains * lanes)
#pragma GCC unroll 8
    for (Index c = 0; c < chains; ++c) acc[c] += load(x + i + c * lanes);
  for (Index c = 1; c < chains; ++c) acc[0] += acc[c];
  return acc[0][0];
}

template <class Real>
constexpr Kernels<Real> all_kernels() {
  return {.cell = {cell_kernels<GruAfter, Real>(), cell_kernels<GruBefore, Real>(),
                   cell_kernels<Elman<false>, Real>(), cell_kernels<Elman<true>, Real>()},
          .linear = {.packed_bytes = packed_linear_bytes<Real>,
                     .pack = flushed<pack_linear<Real>>,
                     .forward = flushed<linear<Real>>,
                     .few_rows = flushed<few_rows<Real>>,
                     .backward_scratch_bytes = linear_backward_scratch_bytes<Real>,
                     .backward = flushed<linear_backward<Real>>},
          // Functions of one number: a denormal gives what they have there.
          .activation = {{each_exp<Real>, flushed<each_exp_backward<Real>>},
                         {each_relu<Real>, flushed<each_relu_backward<Real>>},
                         {each_sigmoid<Real>, flushed<each_sigmoid_backward<Real>>},
                         {flushed<softmax<Real>>, flushed<softmax_backward<Real>>},
                         {each_tanh<Real>, flushed<each_tanh_backward<Real>>}},
          .cross_entropy = flushed<cross_entropy<Real>>,
          .layer_norm = flushed<layer_norm<Real>>,
          .layer_norm_backward = flushed<layer_norm_backward<Real>>,
          .adam = flushed<adam<Real>>,
          .dot = flushed<dot<Real>>,
          .loss = {flushed<mae<Real>>, flushed<mse<Real>>, flushed<huber<Real>>},
          .multiply_adds = multiply_adds<Real>,
          .read = read<Real>};
}

}  // namespace

namespace pygru {
extern const KernelTable PYGRU_TABLE;
const KernelTable PYGRU_TABLE = {.lanes_f32 = static_cast<int>(kLanes<float>),
                                 .register_rows = kRegisterRows,
                                 .f32 = all_kernels<float>(),
                                 .f64 = all_kernels<double>()};
}  // namespace pygru

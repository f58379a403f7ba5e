// SPDX-License-Identifier: MIT
// y = x W^T + b on N rows, and its gradient: dx = dy W, dW += dy^T x, db += sum of dy.
// The same chains as a recurrent layer's input product, so that a Linear gives the same bits alone,
// in a batch and in a stream. Depends on gemm.h and memory.h.
#pragma once

#include "gemm.h"
#include "memory.h"

namespace {

using pygru::Linear;
using pygru::LinearBackward;

template <class Real>
struct PackedLinear {
  Real* W;  // panels of depth K
  Real* b;  // [register][lanes]
};

template <class Real>
PackedLinear<Real> packed_linear(Arena& arena, Index K, Index M) {
  const Index columns = vectors_of<Real>(M) * kLanes<Real>;
  return {arena.take<Real>(columns * K), arena.take<Real>(columns)};
}

template <class Real>
Index packed_linear_bytes(Index K, Index M) {
  Arena arena(nullptr);
  packed_linear<Real>(arena, K, M);
  return arena.used;
}

template <class Real>
void pack_linear(void* memory, Index K, Index M, Matrix<const Real> W, const Real* b) {
  Arena arena(memory);
  const PackedLinear<Real> to = packed_linear<Real>(arena, K, M);
  const Panels panels(vectors_of<Real>(M));
  pack(to.W, panels, K, {0, K}, W, InOrder<Real>{M}, {0, panels.count()});
  for (Index c = 0; c < panels.vectors * kLanes<Real>; ++c) to.b[c] = b && c < M ? b[c] : Real(0);
}

template <class Real>
void linear(const Linear<Real>& f, Team team) {
  Arena packed(f.packed);
  const PackedLinear<Real> weights = packed_linear<Real>(packed, f.K, f.M);
  const Panels panels(vectors_of<Real>(f.M));
  Real accumulators[kAccumulators<Real>];
  product(
      PackedMatrix<Real>{weights.W, panels, f.K, f.K}, share(f.N, team), {0, panels.count()},
      accumulators, [&](Index i) -> const Real* { return f.x.at(i, 0); },
      [&](const auto& tile) {
        return begin_at(tile, weights.b + tile.v * kLanes<Real>, kLanes<Real>, 0);
      },
      store_rows<Real>(f.M, [&](Index i) { return f.y.at(i, 0); }));
}

template <class Real>
struct LinearScratch {
  Real* W;                            // panels of depth M over the inputs: dx = dy W
  Real* dy;                           // panels of depth `rows` over the outputs
  Real* x_packed;                     // x by pack_rows
  static constexpr Index rows = 256;  // at a time: with AVX2 24 KiB of a panel of dy

  LinearScratch(Arena& arena, const LinearBackward<Real>& f) {
    constexpr Index lanes = kLanes<Real>;
    W = arena.take<Real>(f.dx ? vectors_of<Real>(f.K) * lanes * f.M : 0);
    dy = arena.take<Real>(vectors_of<Real>(f.M) * lanes * rows);
    x_packed = arena.take<Real>(ceil_div(f.K, kRegisterRows) * kRegisterRows * rows);
  }
};

template <class Real>
Index linear_backward_scratch_bytes(const LinearBackward<Real>& f) {
  Arena arena(nullptr);
  LinearScratch<Real>(arena, f);
  return arena.used;
}

template <class Real>
void linear_backward(const LinearBackward<Real>& f, Team team) {
  constexpr Index lanes = kLanes<Real>;
  Arena arena(f.scratch);
  const LinearScratch<Real> scratch(arena, f);
  const Panels inputs(vectors_of<Real>(f.K)), outputs(vectors_of<Real>(f.M));
  const Range own = share(outputs.count(), team);
  Real accumulators[kAccumulators<Real>];
  if (f.dx) {
    const Matrix<const Real> W_transposed = {f.W.data, f.W.column_stride, f.W.row_stride};
    pack(scratch.W, inputs, f.M, {0, f.M}, W_transposed, InOrder<Real>{f.K},
         share(inputs.count(), team));
    team.sync();
    product(
        PackedMatrix<Real>{scratch.W, inputs, f.M, f.M}, share(f.N, team), {0, inputs.count()},
        accumulators, [&](Index i) -> const Real* { return f.dy.at(i, 0); }, FromZero<Real>{},
        store_rows<Real>(f.K, [&](Index i) { return f.dx.at(i, 0); }));
  }
  for (Index first_row = 0; first_row < f.N; first_row += scratch.rows) {
    const Index count = min(scratch.rows, f.N - first_row);
    team.sync();  // the chunk before has been read
    pack_rows(
        scratch.x_packed, f.K, count, [&](Index e) { return f.x.at(first_row + e, 0); }, team);
    const Matrix<const Real> dy = {f.dy.at(first_row, 0), f.dy.column_stride, f.dy.row_stride};
    pack(scratch.dy, outputs, count, {0, count}, dy, InOrder<Real>{f.M}, own);
    if (f.db)
      for (Index c = outputs.first(own.begin) * lanes; c < min(f.M, outputs.first(own.end) * lanes);
           ++c)
        for (Index e = 0; e < count; ++e) f.db[c] += *f.dy.at(first_row + e, c);
    team.sync();
    product<kRegisterRows>(
        PackedMatrix<Real>{scratch.dy, outputs, count, count}, {0, f.K}, own, accumulators,
        [&](Index i) { return packed_row(scratch.x_packed, count, i); },
        from_rows<Real>(f.dW.data, f.dW.column_stride, f.M),
        store_rows<Real>(f.M, [&](Index i) { return f.dW.at(0, i); }));
  }
}

}  // namespace

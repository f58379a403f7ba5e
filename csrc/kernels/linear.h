// SPDX-License-Identifier: MIT
// y = x W^T + b on N rows, and its gradient: dx = dy W, dW += dy^T x, db += sum of dy.
// The same chains as a recurrent layer's input product, so that a Linear gives the same bits alone,
// in a batch and in a stream. Depends on gemm.h, memory.h and unpacked.h.
#pragma once

#include "gemm.h"
#include "memory.h"
#include "unpacked.h"

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

// Each member of the team packs some of it.
template <class Real>
void pack_linear(void* memory, Index K, Index M, Matrix<const Real> W, const Real* b, Team team) {
  constexpr Index lanes = kLanes<Real>;
  Arena arena(memory);
  const PackedLinear<Real> to = packed_linear<Real>(arena, K, M);
  const Panels panels(vectors_of<Real>(M));
  const Range part = share(panels.count(), team);
  pack(to.W, panels, K, {0, K}, W, InOrder<Real>{M}, part);
  for (Index c = panels.first(part.begin) * lanes; c < panels.first(part.end) * lanes; ++c)
    to.b[c] = b && c < M ? b[c] : Real(0);
}

// The team divides the rows or, where these would not fill the registers of all, the outputs.
template <class Real>
void linear(const Linear<Real>& f, Team team) {
  Arena packed(f.packed);
  const PackedLinear<Real> weights = packed_linear<Real>(packed, f.K, f.M);
  const Panels panels(vectors_of<Real>(f.M));
  const bool by_rows = f.N >= kRegisterRows * team.size;
  const Range rows = {0, f.N}, part = {0, panels.count()};
  Real accumulators[kAccumulators<Real>];
  product(
      PackedMatrix<Real>{weights.W, panels, f.K, f.K}, by_rows ? share(f.N, team) : rows,
      by_rows ? part : share(panels.count(), team), accumulators,
      [&](Index i) -> const Real* { return f.x.at(i, 0); },
      [&](const auto& tile) {
        return begin_at(tile, weights.b + tile.v * kLanes<Real>, kLanes<Real>, 0);
      },
      store_rows<Real>(f.M, [&](Index i) { return f.y.at(i, 0); }));
}

// linear() on a few rows, from W that is input-major and not packed. The team divides the outputs.
template <class Real>
void few_rows(const Linear<Real>& f, Matrix<const Real> W, const Real* b, Team team) {
  constexpr Index lanes = kLanes<Real>, block = 15;  // rows, which are taken by threes
  const Range registers = share(vectors_of<Real>(f.M), team);
  const Index begin = registers.begin * lanes, end = min(f.M, registers.end * lanes);
  const Index whole = begin + (end - begin) / lanes * lanes, rest = end - whole;
  const auto x_from = [&](Index i) { return [=, &f](Index r) { return f.x.at(i + r, 0); }; };
  const auto W_from = [&](Index c) -> Matrix<const Real> {
    return {W.at(c, 0), W.row_stride, W.column_stride};
  };
  for (Index i = 0; i < f.N; ++i) {
    Real* const y = f.y.at(i, 0);
    for (Index c = begin; c < end; ++c) y[c] = b ? b[c] : Real(0);
  }
  if (begin < whole)
    add_products(
        f.N, [&](Index i) { return f.y.at(i, begin); }, whole - begin, W_from(begin), x_from(0),
        f.K);
  // The last ones in a buffer, as y has no room for a whole register of them.
  for (Index i = 0; rest > 0 && i < f.N; i += block) {
    Real sums[block * lanes];
    const auto sums_of = [&](Index r) { return sums + r * lanes; };
    const Index rows = min(block, f.N - i);
    for (Index r = 0; r < rows; ++r) store(sums_of(r), load_part(f.y.at(i + r, whole), rest));
    add_products(rows, sums_of, rest, W_from(whole), x_from(i), f.K);
    for (Index r = 0; r < rows; ++r) store_part(f.y.at(i + r, whole), load(sums_of(r)), rest);
  }
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

// SPDX-License-Identifier: MIT
// How the operands of a product lie in memory, and the counting that all products share.
//
// The right one is packed into panels [panel][K][N][lanes] of N <= 3 registers, so that one
// broadcast of A[i, k] meets N registers and a panel is one contiguous stream. Which column of a
// matrix a register holds is the caller's to say (InOrder, GatesTogether). The left one is rows in
// place, or rows packed by pack_rows where it has to be transposed. Depends on simd.h.
#pragma once

#include "simd.h"

namespace {

using pygru::Matrix;
using pygru::Team;

struct Range {
  Index begin, end;
};

// A number known when the code is compiled, so that loops over it unroll.
template <int n>
struct Constant {
  constexpr operator int() const { return n; }
};

// The share of [0, count) that belongs to one member of a team: contiguous, equal to within one.
inline Range share(Index count, const Team& team) {
  return {count * team.rank / team.size, count * (team.rank + 1) / team.size};
}

constexpr Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}
constexpr Index min(Index a, Index b) {
  return a < b ? a : b;
}
constexpr Index max(Index a, Index b) {
  return a > b ? a : b;
}

template <class Real>
inline Index vectors_of(Index columns) {
  return ceil_div(columns, kLanes<Real>);
}

// ---- panels ----

// How V registers of columns are cut into panels: threes, then at most two panels of two, so that
// no panel is a single register (a third of the arithmetic per load) unless V is 1.
struct Panels {
  Index vectors;
  Index threes, rest;  // panels of three registers; panels of `rest_width`
  int rest_width;

  explicit Panels(Index V)
      : vectors(V), threes(V / 3), rest(V % 3 != 0), rest_width(V == 1 ? 1 : 2) {
    if (V % 3 == 1 && V > 1) {
      threes -= 1;
      rest = 2;
    }
  }
  Index count() const { return threes + rest; }
  int width(Index p) const { return p < threes ? 3 : rest_width; }
  Index first(Index p) const {
    return p <= threes ? 3 * p : 3 * threes + rest_width * (p - threes);
  }
};

// Which columns of the matrix a register of a panel holds: `count` of them from `first` on, then
// zeros.
struct Lane {
  Index first, count;
};

// The columns in their own order.
template <class Real>
struct InOrder {
  Index columns;
  Lane operator()(Index v) const {
    const Index first = v * kLanes<Real>;
    return {first, min(kLanes<Real>, columns - first)};
  }
};

// Gates side by side: register 3 u + g holds gate g of the u-th group of units.
template <class Real>
struct GatesTogether {
  Index H;
  Lane operator()(Index v) const {
    const Index unit = v / 3 * kLanes<Real>;
    return {v % 3 * H + unit, min(kLanes<Real>, H - unit)};
  }
};

// One register of a panel: dst[k * stride] = the lane's columns of source, for k in [0, K).
// source.at(c, k): whichever of the two strides is 1 decides between copying and transposing.
template <class Real>
void pack_lane(Real* dst, Index stride, Matrix<const Real> source, Lane lane, Index K) {
  constexpr Index lanes = kLanes<Real>;
  const Real* columns = source.at(lane.first, 0);
  if (source.row_stride == 1) {
    for (Index k = 0; k < K; ++k)
      store(dst + k * stride, load_some(columns + k * source.column_stride, lane.count));
    return;
  }
  Index k = 0;
  if (source.column_stride == 1) {
    for (; k + lanes <= K; k += lanes) {
      Vec<Real> block[lanes];
      for (Index c = 0; c < lanes; ++c)
        block[c] = c < lane.count ? load(columns + c * source.row_stride + k) : Vec<Real>{};
      transpose<Real>(block);
      for (Index j = 0; j < lanes; ++j) store(dst + (k + j) * stride, block[j]);
    }
  }
  for (; k < K; ++k)
    for (Index c = 0; c < lanes; ++c)
      dst[k * stride + c] =
          c < lane.count ? columns[c * source.row_stride + k * source.column_stride] : Real(0);
}

// Packs the first `count` panels of `part` if they have three registers with every lane, side by
// side, from rows of the source that are columns of the matrix: each row passes once, and with it
// the cache lines that the panels share. Returns how many were packed.
template <int count, class Real, class Columns>
Index copy_panels(Real* dst, Panels panels, Range part, Index depth, Index K,
                  Matrix<const Real> source, Columns columns) {
  constexpr int N = count * kTileVectors;
  static_assert(N <= 24, "or the pragma below must say more");
  constexpr Index lanes = kLanes<Real>, stride = kTileVectors * lanes;
  const Index first = panels.first(part.begin), last = part.begin + count - 1;
  if (source.row_stride != 1 || last >= part.end || panels.width(last) != kTileVectors ||
      columns(first + N - 1).count < lanes)
    return 0;
  const Real* from[N];
  for (int n = 0; n < N; ++n) from[n] = source.at(columns(first + n).first, 0);
  for (Index k = 0; k < K; ++k)
#pragma GCC unroll 24
    for (int n = 0; n < N; ++n)
      store(dst + (n / kTileVectors * depth + k) * stride + n % kTileVectors * lanes,
            load(from[n] + k * source.column_stride));
  return count;
}

// The panels [part.begin, part.end) of a packed matrix of depth K; `k` is the slice of it that
// source.at(c, 0), source.at(c, 1) ... fill.
template <class Real, class Columns>
void pack(Real* dst, Panels panels, Index K, Range k, Matrix<const Real> source, Columns columns,
          Range part) {
  constexpr Index lanes = kLanes<Real>;
  while (part.begin < part.end) {
    const Index p = part.begin, first = panels.first(p), stride = panels.width(p) * lanes;
    Real* const panel = dst + first * lanes * K + k.begin * stride;
    const auto copy = [&]<int count>(Constant<count>) {
      return copy_panels<count>(panel, panels, part, K, k.end - k.begin, source, columns);
    };
    // Two cache lines of each gate's row at once, which an L2 cache fetches in pairs, or one.
    Index packed = copy(Constant<2 * kLineRegisters>{});
    if (packed == 0) packed = copy(Constant<kLineRegisters>{});
    if (packed == 0) {
      for (int n = 0; n < panels.width(p); ++n)
        pack_lane(panel + n * lanes, stride, source, columns(first + n), k.end - k.begin);
      packed = 1;
    }
    part.begin += packed;
  }
}

// ---- the left operand ----

// Packs row(e), width values or null for zeros, of e in [0, count): the operand's columns become
// the rows of a product of depth count, kRegisterRows of them together, [count][kRegisterRows]. The
// team divides them.
template <class Real, class Row>
void pack_rows(Real* dst, Index width, Index count, Row row, Team team) {
  constexpr Index R = kRegisterRows;
  constexpr Index block = 4;  // rows whose pieces lie side by side: a cache line is written at once
  const Range tiles = share(ceil_div(width, R), team);
  const Index whole = max(tiles.begin, min(tiles.end, width / R));
  for (Index first = 0; first < count; first += block) {
    const Index n = min(block, count - first);
    const Real* from[block];
    bool full = n == block;
    for (Index e = 0; e < n; ++e) full &= (from[e] = row(first + e)) != nullptr;
    Index tile = tiles.begin;
    if (full)
      for (; tile < whole; ++tile)
        for (Index e = 0; e < block; ++e)
          __builtin_memcpy(dst + (tile * count + first + e) * R, from[e] + tile * R,
                           R * sizeof(Real));
    for (; tile < tiles.end; ++tile)
      for (Index e = 0; e < n; ++e)
        for (Index r = 0; r < R; ++r)
          dst[(tile * count + first + e) * R + r] =
              from[e] && tile * R + r < width ? from[e][tile * R + r] : Real(0);
  }
}

// Where row i of such an operand begins; its k-th value is kRegisterRows k further.
template <class Real>
inline const Real* packed_row(const Real* data, Index K, Index i) {
  return data + i / kRegisterRows * kRegisterRows * K + i % kRegisterRows;
}

}  // namespace

// SPDX-License-Identifier: MIT
// A tile of a product: some rows of A times one panel of B, its sums in L1. It is made R rows at a
// time, whose R x N registers of sums stay in registers over K. Depends on panels.h.
#pragma once

#include "panels.h"

namespace {

// Some rows times a panel, or a few times several, between start and finish. Width and panels are
// int, or Constant where most tiles have as many.
template <class Real, class Width = int, class Count = int>
struct Tile {
  Index i = 0;          // first row
  int rows = 0;         // up to kRowBlock
  int R = 0;            // of them in registers at a time; divides rows
  Index v = 0;          // first register
  Width width = {};     // registers of a panel
  Count panels = {};    // 1, 2, 4 ... neighbouring ones, of the same width
  Real* acc = nullptr;  // [rows][panels][width][lanes] in L1

  int vectors() const { return width * panels; }
  Real* at(int r, int n) const { return acc + (r * vectors() + n) * kLanes<Real>; }
};
template <class Real, class... Sizes>
constexpr Index lanes_of(const Tile<Real, Sizes...>&) {
  return kLanes<Real>;
}
template <class Real, int width>
using FullTile = Tile<Real, Constant<width>, Constant<1>>;

// Where the chains of a tile begin, by the registers of a panel: that of row r in panel p at
// at + r row_stride + p panel_stride.
template <class Real>
struct Beginning {
  const Real* at;
  Index row_stride, panel_stride;
};
template <class Real>
struct Beginnings {
  Beginning<Real> of[kTileVectors];
};

// They begin in memory, registers and rows so far apart.
template <class AnyTile, class Real>
inline Beginnings<Real> begin_at(const AnyTile& tile, const Real* at, Index register_stride,
                                 Index row_stride) {
  Beginnings<Real> b;
  for (int n = 0; n < tile.width; ++n)
    b.of[n] = {at + n * register_stride, row_stride, tile.width * register_stride};
  return b;
}

// They go on from the tile's own accumulators.
template <class AnyTile>
inline auto begin_at_accumulators(const AnyTile& tile) {
  const auto* const acc = tile.acc;
  return begin_at(tile, acc, lanes_of(tile), tile.vectors() * lanes_of(tile));
}

// What a tile brings closer while it is busy: `per_k` bytes from `address` on for each of its k. (A
// number, because the last bytes may lie past the end, where no pointer may point.)
struct Ahead {
  std::uintptr_t address = 0;
  Index per_k = 0;
};

// acc[r][p N + n] = begin + sum_k a[r][k step] * panel p[k][n], K > 0, for `times` R rows: each R
// in registers over K. Of `step` rows, from the first on, the values for one k are neighbours: one
// address serves them all.
template <int R, int P, int N, int step, bool far, class Real>
void multiply_tile(Real* acc, const Real* const* rows, int times, const Real* panels,
                   Index panel_stride, Index K, const Beginnings<Real>& begin, Ahead ahead) {
  constexpr Index lanes = kLanes<Real>;
  // A loop over rows that is not unrolled whole keeps its sums on the stack.
  static_assert(R <= 16 && P <= 16 && N <= 4, "or the pragmas below must say more");
  for (int time = 0; time < times; ++time) {
    Vec<Real> sum[R][P * N];
    const Real* a[ceil_div(R, step)];
#pragma GCC unroll 16
    for (int r = 0; r < R; r += step) a[r / step] = rows[time * R + r];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const Beginning<Real> from = begin.of[n];
      const Real* const at = from.at + time * R * from.row_stride;
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
          sum[r][p * N + n] = load(at + r * from.row_stride + p * from.panel_stride);
    }
    const Real* panel = panels;
    Index k = 0;
    // K > 0: the sums need not survive a loop that never runs.
    do {
      if constexpr (P > 1) {  // few rows: their values stay in registers
        Vec<Real> a_k[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) a_k[r] = broadcast(a[r / step][k * step + r % step]);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) {
            const Vec<Real> b = load(panel + p * panel_stride + n * lanes);
            if constexpr (R > 1) asm volatile("" ::: "memory");  // or it is loaded for each row
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r) sum[r][p * N + n] = fma(a_k[r], b, sum[r][p * N + n]);
          }
      } else {
        Vec<Real> b[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) b[n] = load(panel + n * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const Vec<Real> a_k = broadcast(a[r / step][k * step + r % step]);
#pragma GCC unroll 4
          for (int n = 0; n < N; ++n) sum[r][n] = fma(a_k, b[n], sum[r][n]);
        }
      }
      panel += N * lanes;
      if constexpr (far) {
        fetch_line<For::later>(reinterpret_cast<const void*>(ahead.address));
        ahead.address += static_cast<std::uintptr_t>(ahead.per_k);
      }
    } while (++k < K);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
      for (int n = 0; n < P * N; ++n) store(acc + (r * P * N + n) * lanes, sum[r][n]);
    acc += R * P * N * lanes;
  }
}

template <class Real>
using TileFunction = void (*)(Real* acc, const Real* const* rows, int times, const Real* panels,
                              Index panel_stride, Index K, const Beginnings<Real>&, Ahead);

// Rows in registers at a time. A single register a row needs twice as many, or there are too few
// chains.
inline int full_rows(const Panels& panels) {
  return panels.vectors == 1 ? 2 * kRegisterRows : kRegisterRows;
}

// How many neighbouring panels fewer rows take at once, for the same reason: 1, 2, 4 ...
constexpr int panels_at_once(int rows) {
  int panels = 1;
  while (2 * panels * rows <= kLatencyRows) panels *= 2;
  return panels;
}
inline int log_2(int power_of_two) {
  return __builtin_ctz(static_cast<unsigned>(power_of_two));
}

// multiply_tile for `rows` rows at a time, up to kRegisterRows or full_rows(), and `panels` panels,
// a power of two up to panels_at_once(rows), of `width` registers; `far`: one that fetches ahead.
template <int step, class Real, int R = 2 * kRegisterRows, int P = panels_at_once(R)>
TileFunction<Real> tile_function(int rows, int panels, int width, bool far) {
  if (rows == R && panels == P) {
    constexpr int at_most_two = P <= 2 ? P : 1;  // of width 2; of width 1 there is one
    if (R > kRegisterRows || width == 1) return multiply_tile<R, 1, 1, step, false, Real>;
    if (width == 2) return multiply_tile<R, at_most_two, 2, step, false, Real>;
    constexpr bool may_fetch = R == kRegisterRows && step == 1;
    if (may_fetch && far) return multiply_tile<R, P, 3, step, may_fetch, Real>;
    return multiply_tile<R, P, 3, step, false, Real>;
  }
  if constexpr (P > 1)
    if (rows == R) return tile_function<step, Real, R, P / 2>(rows, panels, width, far);
  constexpr int fewer = R > kRegisterRows ? kRegisterRows : R - 1;
  if constexpr (fewer > 0) return tile_function<step, Real, fewer>(rows, panels, width, far);
  return nullptr;
}

// A panel's worth of k (24 KiB) that stays in an L1 cache of 32 KiB; past it, chains pause in
// memory.
constexpr Index kDepth = 24576 / (kTileVectors * kRegisterBytes);

// Rows of a tile at most, so that its sums, and x W^T beside them, add no more than 12 KiB to it.
constexpr Index kRowBlock = kRegisterBytes > 32 ? 32 : 64;

// Bytes that do not stay in a core's own cache (an L2 of 0.5 to 2 MiB), beside all that passes.
constexpr Index kFar = 1 << 19;
// Bytes that do not stay in its share of an L3 either: from here on even a panel that passes once
// is fetched (csrc/README.md).
constexpr Index kVeryFar = 1 << 22;

template <class Real>
constexpr Index kAccumulators = kRowBlock * kTileVectors * kLanes<Real>;  // elements a member needs

// The matrix on the right: `depth` rows packed in panels, of which the chains use the first K.
template <class Real>
struct PackedMatrix {
  const Real* data;
  Panels panels;
  Index depth;
  Index K;

  // Panel of first register v, from row k on; `width` registers wide.
  const Real* at(Index v, Index k, Index width) const {
    return data + (v * depth + k * width) * kLanes<Real>;
  }
};

// Copies the beginnings of its chains into the accumulators of a tile.
template <class AnyTile, class Real>
void begin_in_accumulators(const AnyTile& tile, const Beginnings<Real>& begin) {
  for (int n = 0; n < tile.width; ++n) {
    const auto [at, row_stride, panel_stride] = begin.of[n];
    if (at == tile.at(0, n)) continue;  // they are there
    for (int r = 0; r < tile.rows; ++r)
      for (int p = 0; p < tile.panels; ++p)
        store(tile.at(r, p * tile.width + n), load(at + r * row_stride + p * panel_stride));
  }
}

// The part k of the chains of a tile, into its accumulators.
template <int step, class AnyTile, class Real, class Row>
void advance(const AnyTile& tile, const PackedMatrix<Real>& b, Row row, Range k,
             Beginnings<Real> begin, Ahead ahead = {}) {
  if (k.begin == k.end) return begin_in_accumulators(tile, begin);
  const Real* a[kRowBlock];
  for (int r = 0; r < tile.rows; ++r) a[r] = row(tile.i + r) + k.begin * step;
  const auto multiply =
      tile_function<step, Real>(tile.R, tile.panels, tile.width, ahead.address != 0);
  multiply(tile.acc, a, tile.rows / tile.R, b.at(tile.v, k.begin, tile.width),
           tile.width * kLanes<Real> * b.depth, k.end - k.begin, begin, ahead);
}

}  // namespace

// SPDX-License-Identifier: MIT
// Products of a few rows with a packed matrix, finished in registers.
//
//   finish(start(i, c) + sum_k A[i, k] B[k, c])        k in ascending order, one chain each
//
// B is packed into panels (panels.h). A tile of R rows x N registers stays in registers over K.
// Registers hold different outputs, never parts of one sum: no tiling, thread count or batch
// changes a bit of the result. Depends on panels.h.
//
// The callers say where a row of A lies (row), where its chains begin (start) and what becomes of
// them (finish).
#pragma once

#include "panels.h"

namespace {

// ---- the register tile ----

// A number known when the code is compiled, so that loops over it unroll.
template <int n>
struct Constant {
  constexpr operator int() const { return n; }
};

// Some rows times some registers of a product, between its start and its finish. Rows, width and
// panels are int, or Constant where a tile is full, as most are.
template <class Real, class Rows = int, class Width = int, class Panels_ = int>
struct Tile {
  Index i;         // first row
  Rows rows;       // up to full_rows()
  Index v;         // first register
  Width width;     // registers of a panel
  Panels_ panels;  // neighbouring ones, of the same width
  Real* acc;       // [rows][panels][width][lanes] in L1

  int vectors() const { return width * panels; }
  Real* at(int r, int n) const { return acc + (r * vectors() + n) * kLanes<Real>; }
};
template <class Real, class... Sizes>
constexpr Index lanes_of(const Tile<Real, Sizes...>&) {
  return kLanes<Real>;
}
template <class Real, int width>
using FullTile = Tile<Real, Constant<kTileRows>, Constant<width>, Constant<1>>;

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
template <class T, class Real>
inline Beginnings<Real> begin_at(const T& t, const Real* at, Index register_stride,
                                 Index row_stride) {
  Beginnings<Real> b;
  for (int n = 0; n < t.width; ++n)
    b.of[n] = {at + n * register_stride, row_stride, t.width * register_stride};
  return b;
}

// They go on from the tile's own accumulators.
template <class T>
inline auto begin_at_accumulators(const T& t) {
  const auto* const acc = t.acc;
  return begin_at(t, acc, lanes_of(t), t.vectors() * lanes_of(t));
}

// What a tile brings closer while it is busy: `per_k` bytes from `address` on for each of its k. (A
// number, because the last bytes may lie past the end, where no pointer may point.)
struct Ahead {
  std::uintptr_t address = 0;
  Index per_k = 0;
};

// memory[r][p N + n] = begin + sum_k a[r][k step] * panel p[k][n], in registers over K > 0.
template <int R, int P, int N, int step, bool far, class Real>
void multiply_tile(Real* memory, const Real* const* rows, const Real* panel, Index panel_stride,
                   Index K, const Beginnings<Real>& begin, Ahead ahead) {
  constexpr Index lanes = kLanes<Real>;
  Vec<Real> acc[R][P * N];
  const Real* a[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) a[r] = rows[r];
#pragma GCC unroll 4
  for (int n = 0; n < N; ++n) {
    const Beginning<Real> from = begin.of[n];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p)
        acc[r][p * N + n] = load(from.at + r * from.row_stride + p * from.panel_stride);
  }
  Index k = 0;
  do {  // K > 0: the accumulators need not survive a loop that never runs
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
      Vec<Real> b[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) b[n] = load(panel + p * panel_stride + n * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Vec<Real> a_k = broadcast(a[r][k * step]);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[r][p * N + n] = fma(a_k, b[n], acc[r][p * N + n]);
      }
    }
    panel += N * lanes;
    if constexpr (far) {
      __builtin_prefetch(reinterpret_cast<const void*>(ahead.address), 0, 2);
      ahead.address += static_cast<std::uintptr_t>(ahead.per_k);
    }
  } while (++k < K);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int n = 0; n < P * N; ++n) store(memory + (r * P * N + n) * lanes, acc[r][n]);
}

template <class Real>
using TileFunction = void (*)(Real* acc, const Real* const* rows, const Real* panel,
                              Index panel_stride, Index K, const Beginnings<Real>&, Ahead);

// The rows of a full tile. A single register a row needs twice as many, or there are too few
// chains.
inline int full_rows(const Panels& panels) {
  return panels.vectors == 1 ? 2 * kTileRows : kTileRows;
}

// How many neighbouring panels a tile of few rows takes at once, for the same reason: 1, 2, 4 ...
constexpr int panels_at_once(int rows) {
  return rows < kLatencyRows ? kLatencyRows / rows : 1;
}
inline int log_2(int power_of_two) {
  return __builtin_ctz(static_cast<unsigned>(power_of_two));
}

// How many of the last `left` rows, fewer than a full tile's, a tile takes at once. Three are as
// quick as four: the panels are read once.
inline int rows_at_once(Index left, int full) {
  int rows = full;
  while (4 * left < 3 * rows) rows /= 2;
  return static_cast<int>(min(left, rows));
}

// The rows that are computed for them: 1, 2, 4 ...; the result of those too many is nobody's.
constexpr int computed_rows(int rows) {
  int computed = 1;
  while (computed < rows) computed *= 2;
  return computed;
}

// multiply_tile for `rows` rows and `panels` panels, 1 or panels_at_once(rows), of `width`
// registers; `far`: one that fetches ahead.
template <int step, class Real, int R = 2 * kTileRows>
TileFunction<Real> tile_function(int rows, int panels, int width, bool far = false) {
  if (rows == R) {
    constexpr int P = panels_at_once(R);
    constexpr bool may_fetch = R == kTileRows && step == 1;
    if (R > kTileRows || width == 1)
      return panels == P ? multiply_tile<R, P, 1, step, false, Real>
                         : multiply_tile<R, 1, 1, step, false, Real>;
    if (width == 2)
      return panels == P ? multiply_tile<R, P, 2, step, false, Real>
                         : multiply_tile<R, 1, 2, step, false, Real>;
    if (may_fetch && far) return multiply_tile<R, 1, 3, step, may_fetch, Real>;
    return panels == P ? multiply_tile<R, P, 3, step, false, Real>
                       : multiply_tile<R, 1, 3, step, false, Real>;
  }
  if constexpr (R > 1) return tile_function<step, Real, R / 2>(rows, panels, width, far);
  return nullptr;
}

// A panel's worth of k (24 KiB) that stays in an L1 cache of 32 KiB; past it, chains pause in
// memory.
constexpr Index kDepth = 24576 / (kTileVectors * kRegisterBytes);

// Rows of a panel in one go, so that paused chains stay in L1 too.
constexpr Index kRowBlock = 64;

// Bytes that do not stay in a core's own cache (an L2 of 0.5 to 2 MiB), beside all that passes.
constexpr Index kFar = 1 << 19;

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
template <class T, class Real>
void begin_in_accumulators(const T& t, const Beginnings<Real>& begin) {
  for (int n = 0; n < t.width; ++n) {
    const auto [at, row_stride, panel_stride] = begin.of[n];
    if (at == t.at(0, n)) continue;  // they are there
    for (int r = 0; r < t.rows; ++r)
      for (int p = 0; p < t.panels; ++p)
        store(t.at(r, p * t.width + n), load(at + r * row_stride + p * panel_stride));
  }
}

// The part k of the chains of a tile, into its accumulators.
template <int step, class T, class Real, class Row>
void advance(const T& t, const PackedMatrix<Real>& b, Row row, Range k, TileFunction<Real> multiply,
             Beginnings<Real> begin, Ahead ahead = {}) {
  if (k.begin == k.end) return begin_in_accumulators(t, begin);
  const Real* a[2 * kTileRows];
  for (int r = 0; r < t.rows; ++r) a[r] = row(t.i + r) + k.begin * step;
  if (t.rows < computed_rows(t.rows)) {  // the others have no beginning of their own
    for (int r = t.rows; r < computed_rows(t.rows); ++r) a[r] = a[0];
    begin_in_accumulators(t, begin);
    begin = begin_at_accumulators(t);
  }
  multiply(t.acc, a, b.at(t.v, k.begin, t.width), t.width * kLanes<Real> * b.depth, k.end - k.begin,
           begin, ahead);
}

// From which end a product takes the panels. Steps that alternate find what the step before used
// last still in cache, where all of it does not fit.
enum class From { begin, end };

// Adds up the chains from start(tile), which are Beginnings, and calls finish(tile), for every tile
// of rows x part (panels). row(i) says where row i of the left operand begins; its values are
// `step` apart.
template <int step = 1, class Real, class Row, class Start, class Finish>
void product(PackedMatrix<Real> b, Range rows, Range part, Real* accumulators, Row row, Start start,
             Finish finish, From from = From::begin) {
  const int R = full_rows(b.panels);
  const bool far = step == 1 && b.panels.vectors * b.depth * kRegisterBytes > kFar;
  const auto nth = [&](Index i) {  // the i-th panel that is taken
    return from == From::begin ? part.begin + i : part.end - 1 - i;
  };
  const Index count = part.end - part.begin;
  const Index full = rows.begin + (rows.end - rows.begin) / R * R;
  const Index slices = max(1, ceil_div(b.K, kDepth));
  // All full tiles of the panel that t is of; `next` is the one after it.
  const auto down_the_rows = [&](auto t, Index next) {
    const auto multiply = tile_function<step, Real>(R, t.panels, t.width, far);
    for (Index first = rows.begin; first < full; first += kRowBlock) {
      const Index last = min(full, first + kRowBlock);
      for (Index s = 0; s < slices; ++s) {
        const Index k_0 = b.K * s / slices, k_1 = b.K * (s + 1) / slices;
        // While this slice of the panel serves its tiles out of L1, what comes after it comes
        // closer, a piece with each k of each tile.
        Ahead ahead;
        if (far) {
          const Real* const next_slice = s + 1 < slices
                                             ? b.at(t.v, k_1, t.width)
                                             : b.at(b.panels.first(next), 0, b.panels.width(next));
          ahead.address = reinterpret_cast<std::uintptr_t>(next_slice);
          ahead.per_k = ceil_div(t.width * kRegisterBytes, (last - first) / R);
        }
        t.acc = accumulators;
        for (t.i = first; t.i < last; t.i += R, t.acc += t.rows * t.vectors() * kLanes<Real>) {
          advance<step>(t, b, row, {k_0, k_1}, multiply,
                        s == 0 ? start(t) : begin_at_accumulators(t), ahead);
          ahead.address += static_cast<std::uintptr_t>(ahead.per_k * (k_1 - k_0));
          if (s == slices - 1) finish(t);
        }
      }
    }
  };
  for (Index j = 0; j < count; ++j) {
    const Index p = nth(j), next = j + 1 < count ? nth(j + 1) : p;
    const Index v = b.panels.first(p);
    const int width = b.panels.width(p);
    if constexpr (sizeof(Real) == sizeof(float)) {  // double is not worth the code
      if (R == kTileRows && width == kTileVectors) {
        down_the_rows(FullTile<Real, kTileVectors>{0, {}, v, {}, {}, nullptr}, next);
        continue;
      }
      if (R == kTileRows && width == 2) {
        down_the_rows(FullTile<Real, 2>{0, {}, v, {}, {}, nullptr}, next);
        continue;
      }
    }
    down_the_rows(Tile<Real>{0, R, v, width, 1, nullptr}, next);
  }
  for (Index i = full; i < rows.end;) {
    const int few = rows_at_once(rows.end - i, R), computed = computed_rows(few);
    const Index together = panels_at_once(computed);
    for (Index j = 0; j < count;) {
      const int width = b.panels.width(nth(j));
      const bool several = j + together <= count && b.panels.width(nth(j + together - 1)) == width;
      const int panels = several ? static_cast<int>(together) : 1;
      const Index p = min(nth(j), nth(j + panels - 1));
      const Tile<Real> t = {i, few, b.panels.first(p), width, panels, accumulators};
      advance<step>(t, b, row, {0, b.K}, tile_function<step, Real>(computed, panels, width),
                    start(t));
      finish(t);
      j += panels;
    }
    i += few;
  }
}

// Visits a tile register by register: visit(row, first column, accumulator).
template <class T, class Visit>
inline void each_register(const T& t, Visit visit) {
  for (int r = 0; r < t.rows; ++r)
    for (int n = 0; n < t.vectors(); ++n) visit(t.i + r, (t.v + n) * lanes_of(t), t.at(r, n));
}

// Visits a row's registers, those of a panel at a time, so that what is computed on them can
// overlap: visit(how many, the first). Only one that is alone may reach past the last of `columns`.
template <class T, class Visit>
inline void neighbours(const T& t, Index columns, Visit visit) {
  const Index whole = columns / lanes_of(t) - t.v;  // registers
  for (int n = 0; n < t.vectors(); n += t.width) {
    if (n + t.width > whole || t.width == 1)
      for (int i = n; i < n + t.width; ++i) visit(Constant<1>{}, i);
    else if (t.width == 2)
      visit(Constant<2>{}, n);
    else
      visit(Constant<3>{}, n);
  }
}

// start: every chain begins at 0.
template <class Real>
struct FromZero {
  static constexpr Real zeros[kLanes<Real>] = {};
  template <class T>
  Beginnings<Real> operator()(const T& t) const {
    return begin_at(t, zeros, 0, 0);
  }
};

// start: chains go on from rows of memory that are `row_stride` apart and have `columns` values.
template <class Real>
auto from_rows(const Real* rows, Index row_stride, Index columns) {
  return [=](const auto& t) {
    const Index first = t.v * kLanes<Real>;
    if (first + t.vectors() * kLanes<Real> <= columns)
      return begin_at(t, rows + t.i * row_stride + first, kLanes<Real>, row_stride);
    each_register(t, [&](Index i, Index column, Real* acc) {
      store(acc, load_some(rows + i * row_stride + column, columns - column));
    });
    return begin_at_accumulators(t);
  };
}

// finish: row(i) is where the `columns` results of row i go.
template <class Real, class Row>
auto store_rows(Index columns, Row row) {
  return [=](const auto& t) {
    each_register(t, [&](Index i, Index first, Real* acc) {
      store_some(row(i) + first, load(acc), columns - first);
    });
  };
}

}  // namespace

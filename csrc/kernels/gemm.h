// SPDX-License-Identifier: MIT
// `product`: rows of A times a packed matrix B, tile by tile, each finished while it is in L1.
//
//   finish(start(i, c) + sum_k A[i, k] B[k, c])        k in ascending order, one chain each
//
// B is packed into panels (panels.h) and the product goes through it in tiles (tile.h). Registers
// hold different outputs, never parts of one sum: no tiling, thread count or batch changes a bit of
// the result. (Where B has hardly any columns, `dots` sums in another order, as fixed.) Depends on
// tile.h and sums.h.
//
// The callers say where a row of A lies (row), where the chains of a tile begin (start) and what
// becomes of them (finish).
#pragma once

#include "sums.h"
#include "tile.h"

namespace {

// From which end a product takes the panels. Steps that alternate find what the step before used
// last still in cache, where all of it does not fit.
enum class From { begin, end };

// What product() is given, and how it goes through it.
template <int step, class Real, class Row, class Start, class Finish>
struct Product {
  PackedMatrix<Real> b;
  Range rows, part;
  Real* accumulators;
  Row row;
  Start start;
  Finish finish;
  From from;

  int R = full_rows(b.panels);
  Index count = part.end - part.begin;                        // of panels
  Index full = rows.begin + (rows.end - rows.begin) / R * R;  // where rows are too few for R

  // The j-th panel that is taken.
  Index nth(Index j) const { return from == From::begin ? part.begin + j : part.end - 1 - j; }

  // The last rows, too few for a full tile, follow each few panels, as many as they take at once,
  // while these are still in L2.
  void run() {
    const int few = static_cast<int>(min(rows.end - full, kRegisterRows));
    for (Index j = 0; j < count;) {
      const int panels = few ? equally_wide(j, panels_at_once(few)) : 1;
      if (full > rows.begin)
        for (int i = 0; i < panels; ++i) full_tiles(j + i);
      for (Index i = full; i < rows.end; i += few)
        last_rows({i, min(rows.end, i + few)}, j, panels);
      j += panels;
    }
  }

  // How many panels from the j-th on are as wide as that one: up to `most`, and a power of two.
  int equally_wide(Index j, int most) const {
    while (j + most > count || b.panels.width(nth(j + most - 1)) != b.panels.width(nth(j)))
      most /= 2;
    return most;
  }

  // All full tiles of the j-th panel.
  void full_tiles(Index j) {
    const Index p = nth(j), next = j + 1 < count ? nth(j + 1) : p;
    const Index v = b.panels.first(p);
    const int width = b.panels.width(p);
    if constexpr (sizeof(Real) == sizeof(float)) {  // double is not worth the code
      if (width == kTileVectors)
        return down_the_rows(FullTile<Real, kTileVectors>{.R = R, .v = v, .acc = accumulators},
                             next);
      if (width == 2)
        return down_the_rows(FullTile<Real, 2>{.R = R, .v = v, .acc = accumulators}, next);
    }
    down_the_rows(Tile<Real>{.R = R, .v = v, .width = width, .panels = 1, .acc = accumulators},
                  next);
  }

  // All tiles of full rows of the panel that `tile` is of; `next` is the one after it.
  template <class AnyTile>
  void down_the_rows(AnyTile tile, Index next) {
    // A panel that passes once is one stream, which the processor itself fetches from L3.
    const bool once = full - rows.begin <= R;
    const bool far =
        step == 1 && b.panels.vectors * b.depth * kRegisterBytes > (once ? kVeryFar : kFar);
    const Index slices = max(1, ceil_div(b.K, kDepth));
    for (tile.i = rows.begin; tile.i < full; tile.i += tile.rows) {
      tile.rows = static_cast<int>(min(full - tile.i, kRowBlock));
      for (Index s = 0; s < slices; ++s) {
        const Range k = {b.K * s / slices, b.K * (s + 1) / slices};
        // While this slice of the panel serves the tile out of L1, what comes after it comes
        // closer, a piece with each k of each R rows.
        Ahead ahead;
        if (far) {
          const Real* const next_slice = s + 1 < slices
                                             ? b.at(tile.v, k.end, tile.width)
                                             : b.at(b.panels.first(next), 0, b.panels.width(next));
          ahead.address = reinterpret_cast<std::uintptr_t>(next_slice);
          ahead.per_k = ceil_div(tile.width * kRegisterBytes, tile.rows / R);
        }
        advance<step>(tile, b, row, k, s == 0 ? start(tile) : begin_at_accumulators(tile), ahead);
      }
      finish(tile);
    }
  }

  // A few rows with several panels at once, from the j-th on.
  void last_rows(Range these, Index j, int panels) {
    const Index p = min(nth(j), nth(j + panels - 1));
    const int height = static_cast<int>(these.end - these.begin);
    const Tile<Real> tile = {.i = these.begin,
                             .rows = height,
                             .R = height,
                             .v = b.panels.first(p),
                             .width = b.panels.width(p),
                             .panels = panels,
                             .acc = accumulators};
    advance<step>(tile, b, row, {0, b.K}, start(tile));
    finish(tile);
  }
};

// Adds up the chains from start(tile), which are Beginnings, and calls finish(tile), for every tile
// of rows x part (panels). row(i) says where row i of the left operand begins; its values are
// `step` apart.
template <int step = 1, class Real, class Row, class Start, class Finish>
void product(PackedMatrix<Real> b, Range rows, Range part, Real* accumulators, Row row, Start start,
             Finish finish, From from = From::begin) {
  Product<step, Real, Row, Start, Finish>{.b = b,
                                          .rows = rows,
                                          .part = part,
                                          .accumulators = accumulators,
                                          .row = row,
                                          .start = start,
                                          .finish = finish,
                                          .from = from}
      .run();
}

// The same product where B has so few columns that they would leave most lanes empty: B is given by
// columns, (N, K), and lanes take turns over k.
template <class Real, class Row, class To>
void dots(Range rows, Index N, Index K, Row row, const Real* columns, To to) {
  for (Index i = rows.begin; i < rows.end; ++i) {
    const Real* const a = row(i);
    for (Index n = 0; n < N; ++n) {
      const Real* const b = columns + n * K;
      to(i)[n] = sum_by_halves<Real>(K, [=](Vec<Real> chains, Index k, Index count) {
        return fma(load_some(a + k, count), load_some(b + k, count), chains);
      });
    }
  }
}

// Visits a tile register by register: visit(row, first column, accumulator).
template <class AnyTile, class Visit>
inline void each_register(const AnyTile& tile, Visit visit) {
  for (int r = 0; r < tile.rows; ++r)
    for (int n = 0; n < tile.vectors(); ++n)
      visit(tile.i + r, (tile.v + n) * lanes_of(tile), tile.at(r, n));
}

// Visits a row's registers, those of a panel at a time, so that what is computed on them can
// overlap: visit(how many, the first). Only one that is alone may reach past the last of `columns`.
template <class AnyTile, class Visit>
inline void neighbours(const AnyTile& tile, Index columns, Visit visit) {
  const Index whole = columns / lanes_of(tile) - tile.v;  // registers
  for (int n = 0; n < tile.vectors(); n += tile.width) {
    if (n + tile.width > whole || tile.width == 1)
      for (int i = n; i < n + tile.width; ++i) visit(Constant<1>{}, i);
    else if (tile.width == 2)
      visit(Constant<2>{}, n);
    else
      visit(Constant<3>{}, n);
  }
}

// start: every chain begins at 0.
template <class Real>
struct FromZero {
  static constexpr Real zeros[kLanes<Real>] = {};
  template <class AnyTile>
  Beginnings<Real> operator()(const AnyTile& tile) const {
    return begin_at(tile, zeros, 0, 0);
  }
};

// start: chains go on from rows of memory that are `row_stride` apart and have `columns` values.
// The rows of a tile are fetched into L2 while its first ones are in use.
template <class Real>
auto from_rows(const Real* rows, Index row_stride, Index columns) {
  return [=](const auto& tile) {
    for (int r = 0; r < tile.rows; ++r)
      for (int n = 0; n < tile.vectors(); n += kLineRegisters)
        fetch_line<For::later>(rows + (tile.i + r) * row_stride + (tile.v + n) * kLanes<Real>);
    const Index first = tile.v * kLanes<Real>;
    if (first + tile.vectors() * kLanes<Real> <= columns)
      return begin_at(tile, rows + tile.i * row_stride + first, kLanes<Real>, row_stride);
    each_register(tile, [&](Index i, Index column, Real* acc) {
      store(acc, load_some(rows + i * row_stride + column, columns - column));
    });
    return begin_at_accumulators(tile);
  };
}

// finish: row(i) is where the `columns` results of row i go.
template <class Real, class Row>
auto store_rows(Index columns, Row row) {
  return [=](const auto& tile) {
    each_register(tile, [&](Index i, Index first, Real* acc) {
      store_some(row(i) + first, load(acc), columns - first);
    });
  };
}

}  // namespace

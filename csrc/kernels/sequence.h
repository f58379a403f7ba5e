// SPDX-License-Identifier: MIT
// The time loop, forward, written once for every cell (cell.h); backward is in sequence_backward.h.
//
// A step is a list of phases. A phase is a product of the previous state (or of what an earlier
// phase made) with the recurrent weights of some gates; the cell finishes each tile while it is in
// L1. The chains start from x W^T + bias, made for many steps at once while it stays in cache, or,
// with few inputs or a single step, panel by panel inside the step. Depends on gemm.h, weights.h,
// pass.h and units.h.
#pragma once

#include "gemm.h"
#include "pass.h"
#include "units.h"
#include "weights.h"

namespace {

using pygru::Forward;
using pygru::Sequence;

constexpr Index kFewInputs = 32;             // up to here x W^T is made inside the step
constexpr Index kProjectionBytes = 1 << 18;  // of x W^T at a time: half of an L2 cache or less
constexpr Index kStateBytes = 1 << 18;       // of states at a time: many sequences go in blocks

// ---- the pass ----

template <class Cell, class Real>
struct ForwardPass : Pass<Forward<Real>> {
  static constexpr Index lanes = kLanes<Real>;
  using Base = Pass<Forward<Real>>;
  using Base::f, Base::team, Base::s, Base::by_sequence, Base::rows, Base::time_of, Base::alive,
      Base::mine;

  // What a step reads and writes of one sequence.
  struct Row {
    const Real* h_prev;
    Real* y;
    Real* tape;  // or null
  };

  const GatePanels<Cell, Real> gates;
  const Panels panels;
  const Range part;          // this member's panels, of every group
  const bool fetch_outputs;  // y and the tape are too large to be in cache when they are written
  const bool inside;         // x W^T inside the step
  PackedForward<Real> weights;
  Sequence<Real> tape;
  Index block_rows;               // sequences at a time
  Index chunk_steps, chunk_rows;  // of x W^T at most
  // This member's scratch:
  Real* accumulators;   // kAccumulators, and as many for x W^T made inside the step
  Real* projected;      // [register][chunk row][lanes]: x W^T + bias
  const Real** x_rows;  // (chunk_rows,) of the chunk
  Row* step_rows;       // (B,) of the step
  Real* zeros;          // (H,) the state that no h_0 is

  ForwardPass(const Forward<Real>& args, Team members, Arena& scratch)
      : Base(args, members, args.reverse),
        gates{s.H},
        panels(gates.panels()),
        part(this->part_of(panels)),
        fetch_outputs(s.T * s.B * s.H * (f.tape ? 1 + Cell::slots : 1) >
                      kFar / static_cast<Index>(sizeof(Real))),
        inside(s.I <= kFewInputs || s.T == 1),
        tape(f.tape) {
    Arena packed(f.packed);
    weights = packed_forward<Cell, Real>(packed, s);
    if (Cell::phases > 1 && !tape) {  // what passes from phase to phase, of one step
      tape = {scratch.take<Real>(s.B * Cell::slots * s.H), 0, Cell::slots * s.H};
    }
    Index most = rows.end - rows.begin;  // sequences of a member
    if (by_sequence && team.size > 1)
      for (Index member = 0; member < team.size; ++member)
        most = max(most, f.cuts[member + 1] - f.cuts[member]);
    const Index state_bytes = max(1, gates.per_gate * kRegisterBytes);
    block_rows = max(1, kStateBytes / (state_bytes * kRowBlock)) * kRowBlock;
    if (by_sequence) most = min(most, block_rows);
    const Index row_bytes = max(1, gates.vectors * kRegisterBytes);
    chunk_steps = inside ? 1 : min(s.T, max(1, kProjectionBytes / (row_bytes * max(1, most))));
    chunk_rows = chunk_steps * most;
    accumulators = scratch.take_own<Real>(2 * kAccumulators<Real>, team);
    projected = scratch.take_own<Real>(inside ? 0 : chunk_rows * gates.vectors * lanes, team);
    x_rows = scratch.take_own<const Real*>(chunk_rows, team);
    step_rows = scratch.take_own<Row>(s.B, team);
    zeros = scratch.take_own<Real>(s.H, team);
  }

  void run() {
    if (!f.h_0) __builtin_memset(zeros, 0, static_cast<std::size_t>(s.H) * sizeof(Real));
    if (!by_sequence) return run_rows();
    const Range all = rows;
    for (Index first = all.begin; first < all.end; first += block_rows) {
      rows = {first, min(all.end, first + block_rows)};
      run_rows();
    }
  }

  // All steps of this member's rows.
  void run_rows() {
    for (Index first = 0; first < s.T; first += chunk_steps) {
      const Range chunk = {first, min(s.T, first + chunk_steps)};
      const Index count = gather(chunk);
      if (!inside)
        for (int g = 0; g < gates.groups; ++g) project(g, {0, count});
      Index row_0 = 0;  // the step's first row within the chunk
      for (Index step = chunk.begin; step < chunk.end; ++step) {
        take_step(step, row_0);
        const Range r = mine(0, alive(step));
        row_0 += r.end - r.begin;
      }
    }
    last_states();
  }

  // This member's rows of x over the chunk; returns how many there are.
  Index gather(Range chunk) {
    Index count = 0;
    for (Index step = chunk.begin; step < chunk.end; ++step) {
      const Range r = mine(0, alive(step));
      for (Index i = r.begin; i < r.end; ++i)
        x_rows[count++] = f.x.at(time_of(step), f.lengths.row(i));
    }
    return count;
  }

  // x W^T + bias of one group, for rows of the chunk.
  void project(int g, Range chunk_part) {
    const Index v_0 = g * gates.per_gate;
    product(
        PackedMatrix<Real>{weights.W + v_0 * lanes * s.I, panels, s.I, s.I}, chunk_part, part,
        accumulators, [&](Index i) { return x_rows[i]; },
        [&](const auto& tile) { return bias(tile, v_0); },
        [&](const auto& tile) {
          for (int n = 0; n < tile.vectors(); ++n)
            for (int r = 0; r < tile.rows; ++r)
              store(projected_at(v_0 + tile.v + n, tile.i + r), load(tile.at(r, n)));
        });
  }
  Real* projected_at(Index v, Index chunk_row) const {
    return projected + (v * chunk_rows + chunk_row) * lanes;
  }
  template <class AnyTile>
  Beginnings<Real> bias(const AnyTile& tile, Index v_0) const {
    return begin_at(tile, weights.bias + (v_0 + tile.v) * lanes, lanes, 0);
  }

  void take_step(Index step, Index row_0) {
    const Index n = alive(step);
    const Index continuing = step == 0 ? 0 : min(n, alive(step - 1));
    const From from = (f.steps_before + step) % 2 ? From::end : From::begin;
    gather_step(time_of(step), mine(0, n), continuing);
    run_phases<0>(mine(0, continuing), mine(continuing, n), row_0, from);
    const Range ended = mine(n, s.B);
    if (by_sequence || team.rank == 0)
      for (Index i = ended.begin; i < ended.end; ++i)
        __builtin_memset(f.y.at(time_of(step), f.lengths.row(i)), 0,
                         static_cast<std::size_t>(s.H) * sizeof(Real));
  }

  // Where each sequence of the step lies; those from `continuing` on begin with it.
  void gather_step(Index t, Range r, Index continuing) {
    for (Index i = r.begin; i < r.end; ++i) {
      const Index b = f.lengths.row(i);
      const Real* const first = f.h_0 ? f.h_0.at(b) : zeros;
      step_rows[i] = {i < continuing ? f.y.at(f.reverse ? t + 1 : t - 1, b) : first, f.y.at(t, b),
                      tape ? tape.at(t, b) : nullptr};
    }
  }

  template <int phase>
  void run_phases(Range continuing, Range starting, Index row_0, From from) {
    if constexpr (phase < Cell::phases) {
      run_groups<phase, Cell::first_group[phase]>(continuing, s.H, row_0, from);
      // Nothing to multiply with a zero state.
      run_groups<phase, Cell::first_group[phase]>(starting, f.h_0 ? s.H : 0, row_0, from);
      if (!by_sequence) team.sync();
      run_phases<phase + 1>(continuing, starting, row_0, from);
    }
  }

  template <int phase, int g>
  void run_groups(Range r, Index K, Index row_0, From from) {
    if constexpr (g < Cell::first_group[phase + 1]) {
      if (r.begin < r.end) recur<phase, g>(r, K, row_0, from);
      run_groups<phase, g + 1>(r, K, row_0, from);
    }
  }

  // The product with the recurrent weights of one group, and the cell on each finished tile.
  template <int phase, int g>
  void recur(Range r, Index K, Index row_0, From from) {
    const Index v_0 = g * gates.per_gate;
    const auto operand = [&](Index i) -> const Real* {
      if constexpr (phase == 0) return step_rows[i].h_prev;
      return step_rows[i].tape;  // slot 0
    };
    const Index x_row_0 = row_0 - rows.begin;
    const auto start = [&](const auto& tile) {
      if (g == 0 && fetch_outputs) fetch(tile);
      if (inside) add_inputs(tile, v_0, x_row_0);
      auto begin = from_inputs(tile, v_0, x_row_0);
      if constexpr (Cell::apart != none_apart)  // what there is of it waits for the cell
        begin.of[Cell::apart] = {weights.bias_apart + tile.v / Cell::gates * lanes, 0, lanes};
      return begin;
    };
    const auto finish = [&](const auto& tile) __attribute__((always_inline)) {
      if constexpr (Cell::gates_together)
        finish_groups(tile, from_inputs(tile, v_0, x_row_0).of[Cell::apart]);
      else
        finish_rows<g>(tile);
    };
    product(PackedMatrix<Real>{weights.U + v_0 * lanes * s.H, panels, s.H, K}, r, part,
            accumulators, operand, start, finish, from);
  }

  // The cell on a tile of which every panel is all gates of some units, several at once so that
  // what is computed on each can overlap.
  template <class AnyTile>
  [[gnu::noinline]] void finish_groups(const AnyTile& tile, const Beginning<Real>& inputs) const {
    const Index count = tile.rows * tile.panels, unit = tile.v / Cell::gates * lanes;
    Index j = 0;
    if (unit + tile.panels * lanes <= s.H) {
      for (; j + kOverlap <= count; j += kOverlap) finish_units<kOverlap>(tile, inputs, j, unit);
      static_assert(kOverlap == 4, "or more may be left over");
      if (j + 3 == count) return finish_units<3>(tile, inputs, j, unit);
      if (j + 2 == count) return finish_units<2>(tile, inputs, j, unit);
    }
    for (; j < count; ++j) finish_units<1>(tile, inputs, j, unit);
  }
  template <int N, class AnyTile>
  [[gnu::always_inline]] void finish_units(const AnyTile& tile, const Beginning<Real>& inputs,
                                           Index first, Index unit_0) const {
    ForwardUnits<Real, N> u;
    u.H = s.H;
    Wide<Real, N> chains[Cell::gates];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      const Index r = (first + j) >> log_2(tile.panels), p = (first + j) & (tile.panels - 1);
      const Row& row = step_rows[tile.i + r];
      const Index unit = unit_0 + p * lanes;
      const Real* const acc = tile.acc + (first + j) * Cell::gates * lanes;
      u.units = s.H - unit;
      u.from_h[j] = row.h_prev + unit;
      u.from_x[j] = inputs.at + r * inputs.row_stride + p * inputs.panel_stride;
      u.to_h[j] = row.y + unit;
      u.tape[j] = row.tape ? row.tape + unit : nullptr;
#pragma GCC unroll 4
      for (int g = 0; g < Cell::gates; ++g) chains[g].part[j] = load(acc + g * lanes);
    }
    Cell::forward(u, chains);
  }

  // The cell on tiles whose registers are one gate of neighbouring units.
  template <int g, class AnyTile>
  [[gnu::noinline]] void finish_rows(const AnyTile& tile) const {
    for (int r = 0; r < tile.rows; ++r) {
      const Row& row = step_rows[tile.i + r];
      neighbours(tile, s.H, [&]<int N>(Constant<N>, int n) {
        const Index unit = (tile.v + n) * lanes;
        ForwardRow<Real, N> u{
            {s.H, s.H - unit, row.h_prev + unit, row.tape ? row.tape + unit : nullptr},
            row.y + unit};
        Cell::template forward<g>(
            u, Wide<Real, N>::map([&](int j) { return load(tile.at(r, n + j)); }));
      });
    }
  }

  // Brings closer the first lines of what the cell will write, while the product is made.
  template <class AnyTile>
  void fetch(const AnyTile& tile) const {
    const Index unit = tile.v / (Cell::gates_together ? Cell::gates : 1) * lanes;
    for (int r = 0; r < tile.rows; ++r) {
      const Row& row = step_rows[tile.i + r];
      fetch_line<For::writing>(row.y + unit);
      if (!row.tape) continue;
      for (int slot = 0; slot < Cell::slots; ++slot)
        fetch_line<For::writing>(row.tape + slot * s.H + unit);
    }
  }

  // A tile's x W^T + bias beside its accumulators, of inputs that are added inside the step.
  template <class AnyTile>
  void add_inputs(AnyTile tile, Index v_0, Index x_row_0) const {
    tile.acc += kAccumulators<Real>;
    advance<1>(
        tile, PackedMatrix<Real>{weights.W + v_0 * lanes * s.I, panels, s.I, s.I},
        [&](Index i) { return x_rows[x_row_0 + i]; }, {0, s.I}, bias(tile, v_0));
  }

  // Where a tile's x W^T + bias is: what the chains of a step go on from.
  template <class AnyTile>
  Beginnings<Real> from_inputs(AnyTile tile, Index v_0, Index x_row_0) const {
    if (!inside)
      return begin_at(tile, projected_at(v_0 + tile.v, x_row_0 + tile.i), chunk_rows * lanes,
                      lanes);
    tile.acc += kAccumulators<Real>;
    return begin_at_accumulators(tile);
  }

  // h_n: each sequence's state at its own end.
  void last_states() {
    const Range r = by_sequence ? rows : share(s.B, team);
    for (Index i = r.begin; i < r.end; ++i) {
      const Index b = f.lengths.row(i), length = f.lengths.of(b, s.T);
      const Real* h =
          length > 0 ? f.y.at(f.reverse ? 0 : length - 1, b) : (f.h_0 ? f.h_0.at(b) : nullptr);
      for (Index j = 0; j < s.H; ++j) f.h_n.at(b)[j] = h ? h[j] : Real(0);
    }
  }
};

template <class Cell, class Real>
void forward(const Forward<Real>& f, Team team) {
  Arena scratch(f.scratch);
  ForwardPass<Cell, Real>(f, team, scratch).run();
}

template <class Cell, class Real>
Index forward_scratch_bytes(const Forward<Real>& f, Index team_size) {
  Arena scratch(nullptr);
  ForwardPass<Cell, Real>(f, Team{.rank = 0, .size = team_size}, scratch);
  return scratch.used;
}

}  // namespace

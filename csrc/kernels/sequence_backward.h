// SPDX-License-Identifier: MIT
// The time loop, backward: back-propagation through time, the mirror image of sequence.h.
//
// Per step only the product that brings dh' back to the step before; the cell finishes each tile of
// dh straight on to the gradients of its gates and leaves them in the tape. After a chunk of steps,
// while those are in cache, come the weight gradients, as products over all (t, b) of the chunk,
// and dx. The chains of a weight gradient run through all chunks in one order: backwards in time,
// sequences in the order of `lengths`. Depends on sequence.h.
#pragma once

#include "sequence.h"

namespace {

using pygru::Backward;

// (t, b) pairs of a chunk: with AVX2 24 KiB of a panel of gate gradients; more where a cell keeps
// little.
template <class Cell>
constexpr Index kGradientRows = Cell::slots > 1 ? 256 : 512;

// ---- the pass ----

template <class Cell, class Real>
struct BackwardPass : Pass<Backward<Real>> {
  static constexpr Index lanes = kLanes<Real>;
  using Base = Pass<Backward<Real>>;
  using Base::f, Base::team, Base::s, Base::by_sequence, Base::rows, Base::time_of, Base::alive,
      Base::mine;

  // One (t, b) of a chunk, as the weight gradients read it.
  struct Entry {
    const Real* x;
    const Real* h_prev;  // null for zeros
    Real* tape;
    Real* dx;
  };

  // What a step reads and writes of one sequence.
  struct Row {
    const Real* h_prev;
    Real* tape;
    const Real* dy;  // or null
  };

  const Panels panels;    // of units
  const Range part;       // this member's panels
  const bool fetch_tape;  // it is too large to be in cache when it is read
  PackedBackward<Real> weights;
  // Scratch of the team:
  Index chunk_steps;
  Index slice;  // (t, b) pairs of a chunk whose weight gradients are taken at once
  Index carry_stride;
  Real* carry;     // (B, carry_stride), where the cell carries
  Real* x_packed;  // x, h' and slot 0 over a slice, by pack_rows
  Real* h_packed;
  Real* slot_0_packed;
  Real* gates_packed[Cell::gradient_groups];  // panels of each gradient group, depth slice
  // This member's scratch:
  Real* accumulators;  // kAccumulators
  Entry* entries;      // (slice,)
  Row* step_rows;      // (B,) of the step
  Real* zeros;         // (H,) the state that no h_0 is

  // BPTT takes the last step of the forward pass first.
  BackwardPass(const Backward<Real>& args, Team members, Arena& scratch)
      : Base(args, members, !args.reverse),
        panels(vectors_of<Real>(s.H)),
        part(this->part_of(panels)),
        fetch_tape(s.T * s.B * s.H * (1 + Cell::slots) > kFar / static_cast<Index>(sizeof(Real))) {
    Arena packed(f.packed);
    weights = packed_backward<Cell, Real>(packed, s, static_cast<bool>(f.dx));
    chunk_steps = min(s.T, max(1, kGradientRows<Cell> / max(1, s.B)));
    slice = min(chunk_steps * s.B, kGradientRows<Cell>);
    carry_stride = panels.vectors * lanes;
    carry = scratch.take<Real>(Cell::carries ? s.B * carry_stride : 0);
    x_packed = scratch.take<Real>(packed_rows(s.I));
    h_packed = scratch.take<Real>(packed_rows(s.H));
    slot_0_packed = scratch.take<Real>(Cell::phases > 1 ? packed_rows(s.H) : 0);
    for (int g = 0; g < Cell::gradient_groups; ++g)
      gates_packed[g] = scratch.take<Real>(group_columns(g).panels.vectors * lanes * slice);
    accumulators = scratch.take_own<Real>(kAccumulators<Real>, team);
    entries = scratch.take_own<Entry>(slice, team);
    step_rows = scratch.take_own<Row>(s.B, team);
    zeros = scratch.take_own<Real>(s.H, team);
  }

  Index packed_rows(Index width) const {
    return ceil_div(width, kRegisterRows) * kRegisterRows * slice;
  }

  struct GroupColumns {
    Index columns;
    Panels panels;
  };
  GroupColumns group_columns(int g) const {
    const Index columns = Cell::gradient_group[g].slots * s.H;
    return {columns, Panels(vectors_of<Real>(columns))};
  }

  // The state before step t, or null for zeros.
  const Real* state_before(Index t, Index b) const {
    const bool first = f.reverse ? t == f.lengths.of(b, s.T) - 1 : t == 0;
    if (!first) return f.y.at(f.reverse ? t + 1 : t - 1, b);
    return f.h_0 ? f.h_0.at(b) : nullptr;
  }

  void run() {
    __builtin_memset(zeros, 0, static_cast<std::size_t>(s.H) * sizeof(Real));
    for (Index first = 0; first < s.T; first += chunk_steps) {
      const Range chunk = {first, min(s.T, first + chunk_steps)};
      for (Index step = chunk.begin; step < chunk.end; ++step) take_step(step);
      if (by_sequence) team.sync();  // by units every phase ended with one
      Index from = 0;                // a chunk of more than a slice is one step
      do {
        if (from > 0) team.sync();  // what is packed of the slice before has been read
        const Index count = gather(chunk, from);
        input_gradient(count);
        weight_gradients(count);
        from += slice;
      } while (from < alive(chunk.end - 1));
      clear_padding(chunk);
    }
    if (f.dh_0) first_states();
  }

  // ---- one step ----

  void take_step(Index step) {
    const Index t = time_of(step), n = alive(step);
    const Index before = step == 0 ? 0 : alive(step - 1);
    const From from = step % 2 ? From::end : From::begin;
    gather_step(t, mine(0, n));
    finish_dh(t, time_of(step - 1), mine(0, min(before, n)), false, from);
    finish_dh(t, t, mine(min(before, n), n), true, from);
    if (!by_sequence) team.sync();
    if constexpr (Cell::phases > 1) {
      second_phase(mine(0, n), from);
      if (!by_sequence) team.sync();
    }
  }

  // Where each sequence of the step lies.
  void gather_step(Index t, Range r) {
    for (Index i = r.begin; i < r.end; ++i) {
      const Index b = f.lengths.row(i);
      const Real* const h = state_before(t, b);
      step_rows[i] = {h ? h : zeros, f.tape.at(t, b), f.dy ? f.dy.at(t, b) : nullptr};
    }
  }

  // dh of step t from the gates of t_later, the step BPTT took before; then the cell. `starting`:
  // the sequences end here, and dh begins with dh_n.
  void finish_dh(Index t, Index t_later, Range r, bool starting, From from) {
    if (r.begin == r.end) return;
    const Index to_later = (t_later - t) * f.tape.t_stride;
    const auto start = [&](const auto& tile) {
      if (fetch_tape) fetch(tile);
      return starting ? from_last_state(tile) : carried(tile);
    };
    const Index K = starting ? 0 : Cell::dh_slots * s.H;
    product(
        PackedMatrix<Real>{weights.U, panels, Cell::dh_slots * s.H, K}, r, part, accumulators,
        [&](Index i) -> const Real* { return step_rows[i].tape + to_later + Cell::dh_slot * s.H; },
        start, [&](const auto& tile) { finish_rows<0>(tile); }, from);
  }

  // dh' begins with what of it needs no product.
  template <class AnyTile>
  Beginnings<Real> carried(const AnyTile& tile) const {
    if (!Cell::carries) return FromZero<Real>{}(tile);
    return begin_at(tile, carry + tile.i * carry_stride + tile.v * lanes, lanes, carry_stride);
  }

  // dh begins with dh_n.
  template <class AnyTile>
  Beginnings<Real> from_last_state(const AnyTile& tile) const {
    if (!f.dh_n) return FromZero<Real>{}(tile);
    each_register(tile, [&](Index i, Index unit, Real* acc) {
      store(acc, load_some(f.dh_n.at(f.lengths.row(i)) + unit, s.H - unit));
    });
    return begin_at_accumulators(tile);
  }

  // Brings closer what the cell will read, while the product is made.
  template <class AnyTile>
  void fetch(const AnyTile& tile) const {
    for (int r = 0; r < tile.rows; ++r) {
      const Row& row = step_rows[tile.i + r];
      for (int n = 0; n < tile.vectors(); n += kLineRegisters) {
        const Index unit = (tile.v + n) * lanes;
        fetch_line<For::reading>(row.h_prev + unit);
        if (row.dy) fetch_line<For::reading>(row.dy + unit);
        for (int slot = 0; slot < Cell::slots; ++slot)
          fetch_line<For::writing>(row.tape + slot * s.H + unit);
      }
    }
  }

  // The product of a second phase, and the rest of the cell.
  void second_phase(Range r, From from) {
    product(
        PackedMatrix<Real>{weights.U_second, panels, s.H, s.H}, r, part, accumulators,
        [&](Index i) -> const Real* { return step_rows[i].tape + Cell::second_gradient * s.H; },
        FromZero<Real>{}, [&](const auto& tile) { finish_rows<1>(tile); }, from);
  }

  // The cell's gradient on a tile, whose registers are neighbouring units.
  template <int phase, class AnyTile>
  void finish_rows(const AnyTile& tile) const {
    for (int r = 0; r < tile.rows; ++r) {
      const Row& row = step_rows[tile.i + r];
      Real* const to_carry = Cell::carries ? carry + (tile.i + r) * carry_stride : nullptr;
      neighbours(tile, s.H, [&]<int N>(Constant<N>, int n) {
        const Index unit = (tile.v + n) * lanes;
        BackwardRow<Real, N> u{{s.H, s.H - unit, row.h_prev + unit, row.tape + unit},
                               Cell::carries ? to_carry + unit : nullptr};
        auto sum = Wide<Real, N>::map([&](int j) { return load(tile.at(r, n + j)); });
        if (phase == 0 && row.dy) sum = sum + u.load_units(row.dy + unit);
        Cell::template backward<phase>(u, sum);
      });
    }
  }

  // dh_0: one more product, for each sequence from its first step; those of one length together.
  void first_states() {
    const auto step_of = [this](Index i) {
      const Index length = f.lengths.of(f.lengths.row(i), s.T);
      return f.reverse || length == 0 ? length - 1 : 0;
    };
    for (Index i = rows.begin, end = i; i < rows.end; i = end) {
      const Index t = step_of(i);
      while (end < rows.end && step_of(end) == t) ++end;
      const auto start = [&](const auto& tile) {
        return t >= 0 ? carried(tile) : from_last_state(tile);
      };
      const Index depth = Cell::dh_slots * s.H;
      product(
          PackedMatrix<Real>{weights.U, panels, depth, t >= 0 ? depth : 0}, {i, end}, part,
          accumulators,
          [&](Index row) -> const Real* {
            return f.tape.at(t, f.lengths.row(row)) + Cell::dh_slot * s.H;
          },
          start, store_rows<Real>(s.H, [&](Index row) { return f.dh_0.at(f.lengths.row(row)); }));
    }
  }

  // ---- after a chunk of steps ----

  // Where the (t, b) of a slice lie, which begins with row `from` of each step.
  Index gather(Range chunk, Index from) {
    Index count = 0;
    for (Index step = chunk.begin; step < chunk.end; ++step) {
      const Index t = time_of(step), n = min(alive(step), from + slice);
      for (Index i = from; i < n; ++i) {
        const Index b = f.lengths.row(i);
        entries[count++] = {f.x.at(t, b), state_before(t, b), f.tape.at(t, b),
                            f.dx ? f.dx.at(t, b) : nullptr};
      }
    }
    return count;
  }

  void input_gradient(Index count) {
    if (!f.dx) return;
    const Panels inputs(vectors_of<Real>(s.I));
    const Index depth = Cell::gates * s.H;
    const Range own = share(count, team);
    const auto gradient = [&](Index e) -> const Real* {
      return entries[e].tape + Cell::dx_slot * s.H;
    };
    const auto to = [&](Index e) { return entries[e].dx; };
    if (s.I <= kNarrowInput<Real>)
      dots(own, s.I, depth, gradient, weights.W, to);
    else
      product(PackedMatrix<Real>{weights.W, inputs, depth, depth}, own, {0, inputs.count()},
              accumulators, gradient, FromZero<Real>{}, store_rows<Real>(s.I, to));
  }

  // dx past the ends is 0.
  void clear_padding(Range chunk) {
    if (!f.dx) return;
    const Range mine_of_padding = share(s.B, team);
    for (Index step = chunk.begin; step < chunk.end; ++step)
      for (Index i = max(alive(step), mine_of_padding.begin); i < mine_of_padding.end; ++i)
        __builtin_memset(f.dx.at(time_of(step), f.lengths.row(i)), 0,
                         static_cast<std::size_t>(s.I) * sizeof(Real));
  }

  // dW += ds^T x and dU += ds^T h' over a slice; the team divides the columns, that is rows of the
  // weights, so that each gradient is one member's chain.
  void weight_gradients(Index count) {
    Index with_state = count;  // without h_0 the last entries are first steps: nothing to add to dU
    while (with_state > 0 && !entries[with_state - 1].h_prev) --with_state;
    const auto entry = [all = entries](auto member) {
      return [all, member](Index e) -> const Real* { return all[e].*member; };
    };
    pack_rows(x_packed, s.I, count, entry(&Entry::x), team);
    pack_rows(h_packed, s.H, with_state, entry(&Entry::h_prev), team);
    if (Cell::phases > 1) pack_rows(slot_0_packed, s.H, with_state, entry(&Entry::tape), team);
    for (int g = 0; g < Cell::gradient_groups; ++g) pack_gates(g, count);
    team.sync();
    for (int g = 0; g < Cell::gradient_groups; ++g) {
      const GradientGroup group = Cell::gradient_group[g];
      if (group.of_W) accumulate(g, count, f.dW, s.I, x_packed, count);
      if (group.of_U != Operand::none)
        accumulate(g, count, f.dU, s.H, group.of_U == Operand::slot_0 ? slot_0_packed : h_packed,
                   with_state);
    }
  }

  // This member's panels of one group's gate gradients, and their sums: the bias gradients. A few
  // rows at a time, because rows of the tape are often a multiple of a page apart and push each
  // other out of the cache.
  void pack_gates(int g, Index count) const {
    constexpr Index block = 8;
    const GradientGroup group = Cell::gradient_group[g];
    const GroupColumns columns = group_columns(g);
    const Range own = share(columns.panels.count(), team);
    Real* const biases[] = {group.of_W ? f.db_x : nullptr,
                            group.of_U != Operand::none ? f.db_h : nullptr};
    for (Index e_0 = 0; e_0 < count; e_0 += block) {
      const Entry* const some = entries + e_0;
      const Index few = min(block, count - e_0);
      for (Index p = own.begin; p < own.end; ++p) {
        const Index v = columns.panels.first(p), first = v * lanes;
        const int width = columns.panels.width(p);
        Real* const to = gates_packed[g] + first * count + e_0 * width * lanes;
        const Index from = group.slot * s.H + first, exist = columns.columns - first;
        Vec<Real> sum[kTileVectors];
        for (Vec<Real>& one : sum) one = Vec<Real>{};  // `= {}` becomes `rep stos`, slow to start
        if (exist < width * lanes || width == 1)
          pack_gates_of<false>(some, few, width, from, exist, to, sum);
        else if (width == 2)
          pack_gates_of<true>(some, few, Constant<2>{}, from, exist, to, sum);
        else
          pack_gates_of<true>(some, few, Constant<3>{}, from, exist, to, sum);
        for (int n = 0; n < width; ++n) {
          const Index at = group.gate * s.H + first + n * lanes, left = exist - n * lanes;
          for (Real* const db : biases)
            if (db) store_some(db + at, load_some(db + at, left) + sum[n], left);
        }
      }
    }
  }

  // One panel of some entries: `width` registers, an int or, where all are complete, a Constant.
  template <bool complete, class Width>
  static void pack_gates_of(const Entry* some, Index count, Width width, Index from, Index exist,
                            Real* to, Vec<Real>* sum) {
    for (Index e = 0; e < count; ++e) {
      for (int n = 0; n < width; ++n) {
        const Real* const at = some[e].tape + from + n * lanes;
        const Vec<Real> ds = complete ? load(at) : load_some(at, exist - n * lanes);
        store(to + (e * width + n) * lanes, ds);
        sum[n] += ds;
      }
    }
  }

  // The columns of one group: gradient += gates^T operand over the first `depth` of `count`
  // entries.
  void accumulate(int g, Index count, Matrix<Real> gradient, Index width, const Real* operand,
                  Index depth) const {
    const GroupColumns columns = group_columns(g);
    const Index gate_0 = Cell::gradient_group[g].gate * s.H;
    product<kRegisterRows>(
        PackedMatrix<Real>{gates_packed[g], columns.panels, count, depth}, {0, width},
        share(columns.panels.count(), team), accumulators,
        [&](Index i) { return packed_row(operand, depth, i); },
        from_rows<Real>(gradient.at(gate_0, 0), gradient.column_stride, columns.columns),
        store_rows<Real>(columns.columns, [&](Index i) { return gradient.at(gate_0, i); }));
  }
};

template <class Cell, class Real>
void backward(const Backward<Real>& f, Team team) {
  Arena scratch(f.scratch);
  BackwardPass<Cell, Real>(f, team, scratch).run();
}

template <class Cell, class Real>
Index backward_scratch_bytes(const Backward<Real>& f, Index team_size) {
  Arena scratch(nullptr);
  BackwardPass<Cell, Real>(f, Team{.rank = 0, .size = team_size}, scratch);
  return scratch.used;
}

}  // namespace

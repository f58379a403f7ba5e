// SPDX-License-Identifier: MIT
// A few steps of a few sequences, straight from the caller's weights: packing them would cost more
// than the steps. The same chains as in sequence.h, so the same bits. Depends on sequence.h and
// unpacked.h.
#pragma once

#include "sequence.h"
#include "unpacked.h"

namespace {

template <class Cell, class Real>
struct FewSteps {
  static constexpr Index lanes = kLanes<Real>;
  // Of a sequence: one for each gate and, behind them, W x of the one that is apart.
  static constexpr int chains = Cell::gates + (Cell::apart != none_apart ? 1 : 0);

  const Forward<Real>& f;
  const Weights<Real>& w;
  const Team team;
  const Index T, B, H, padded;
  const Index from, until;  // this member's units
  Real* sums;               // [T][B][chains][padded]
  Real* slots;              // [B][S][H] what passes from phase to phase when there is no tape
  Real* zeros;              // [H] the state that no h_0 is

  FewSteps(const Forward<Real>& args, const Weights<Real>& weights, Team members, Arena& scratch)
      : f(args),
        w(weights),
        team(members),
        T(args.shape.T),
        B(args.shape.B),
        H(args.shape.H),
        padded(vectors_of<Real>(H) * lanes),
        from(share(vectors_of<Real>(H), team).begin * lanes),
        until(min(H, share(vectors_of<Real>(H), team).end * lanes)) {
    sums = scratch.take<Real>(T * B * chains * padded);
    slots = scratch.take<Real>(f.tape ? 0 : B * Cell::slots * H);
    zeros = scratch.take<Real>(H);
  }

  Real* chain(Index t, Index b, int g) const { return sums + ((t * B + b) * chains + g) * padded; }
  static constexpr int chain_of_x(int g) { return g == Cell::apart ? Cell::gates : g; }

  // The state before step t, or null for zeros.
  const Real* state_before(Index t, Index b) const {
    if (t != (f.reverse ? T - 1 : 0)) return f.y.at(f.reverse ? t + 1 : t - 1, b);
    return f.h_0 ? f.h_0.at(b) : nullptr;
  }

  void run() {
    for (Index j = from; j < until; ++j) zeros[j] = 0;
    for (Index t = 0; t < T; ++t)
      for (Index b = 0; b < B; ++b)
        for (int g = 0; g < Cell::gates; ++g) start(t, b, g);
    const auto x = [&](Index r) { return f.x.at(r / B, r % B); };
    const int together =
        Cell::apart != none_apart ? Cell::apart : Cell::gates;  // that lie side by side
    const auto first = [&](int g) {
      return [this, g](Index r) { return chain(r / B, r % B, chain_of_x(g)); };
    };
    add(T * B, first, 0, together, w.W, x, f.shape.I);
    add(T * B, first, together, Cell::gates, w.W, x, f.shape.I);
    for (Index step = 0; step < T; ++step) {
      take_step(f.reverse ? T - 1 - step : step);
      team.sync();
    }
    const Index last = f.reverse ? 0 : T - 1;
    for (Index b = 0; b < B; ++b)
      for (Index j = from; j < until; ++j) f.h_n.at(b)[j] = f.y.at(last, b)[j];
  }

  // Begins the chains of one gate with its biases, or with one of them each: a sum would lose a -0.
  void start(Index t, Index b, int g) const {
    const auto bias = [&](const Real* values, Index j) {
      return values && j < H ? values[g * H + j] : Real(0);
    };
    Real* const to = chain(t, b, g);
    Real* const of_x = chain(t, b, chain_of_x(g));
    for (Index j = from; j < vectors_of<Real>(until) * lanes; ++j) {
      const Real b_x = bias(w.b_x, j), b_h = bias(w.b_h, j);
      to[j] = to == of_x ? b_x + b_h : b_h;
      if (to != of_x) of_x[j] = b_x;
    }
  }

  // The products of the gates [first, last): all at once where nothing lies between their chains.
  template <class SumsOf, class A>
  void add(Index rows, SumsOf sums_of, int first, int last, Matrix<const Real> m, A a,
           Index K) const {
    if (first == last) return;
    const int at_once = team.size == 1 && padded == H ? last - first : 1;
    const Index n = at_once == 1 ? until - from : at_once * H;
    for (int g = first; g < last; g += at_once) {
      const auto sums_of_g = [&, rows_of = sums_of(g)](Index r) { return rows_of(r) + from; };
      const Matrix<const Real> of_g{m.at(g * H + from, 0), m.row_stride, m.column_stride};
      add_products(rows, sums_of_g, n, of_g, a, K);
    }
  }

  void take_step(Index t) {
    const bool from_zeros = !state_before(t, 0);
    const auto sums_of = [&](int g) { return [this, t, g](Index b) { return chain(t, b, g); }; };
    const auto h = [&](Index b) { return state_before(t, b); };
    if constexpr (Cell::gates_together) {
      if (!from_zeros) add(B, sums_of, 0, Cell::gates, w.U, h, H);
      for (Index b = 0; b < B; ++b) all_gates(t, b);
    } else {
      phase<0>(t, from_zeros, sums_of, h);
    }
  }

  // A cell that takes all gates of some units at once.
  void all_gates(Index t, Index b) {
    const Real* const h = state_before(t, b);
    Real* const tape = f.tape ? f.tape.at(t, b) : nullptr;
    const auto cell = [&]<int N>(Constant<N>, Index unit) {
      ForwardUnits<Real, N> u;
      u.H = H;
      u.units = H - unit;
      for (int j = 0; j < N; ++j) {
        const Index at = unit + j * lanes;
        u.from_h[j] = (h ? h : zeros) + at;
        u.from_x[j] = chain(t, b, Cell::gates) + at;
        u.to_h[j] = f.y.at(t, b) + at;
        u.tape[j] = tape ? tape + at : nullptr;
      }
      Wide<Real, N> all[Cell::gates];
      for (int g = 0; g < Cell::gates; ++g)
        all[g] = Wide<Real, N>::map([&](int j) { return load(chain(t, b, g) + unit + j * lanes); });
      Cell::forward(u, all);
    };
    Index unit = from;
    for (; unit + kOverlap * lanes <= until; unit += kOverlap * lanes)
      cell(Constant<kOverlap>{}, unit);
    for (; unit < until; unit += lanes) cell(Constant<1>{}, unit);
  }

  Real* kept(Index t, Index b) const {
    return f.tape ? f.tape.at(t, b) : slots + b * Cell::slots * H;
  }

  // A cell that takes one gate after the other.
  template <int p, class SumsOf, class A>
  void phase(Index t, bool from_zeros, SumsOf sums_of, A operand) {
    if constexpr (p < Cell::phases) {
      constexpr int begin = Cell::first_group[p], end = Cell::first_group[p + 1];
      if (!from_zeros) add(B, sums_of, begin, end, w.U, operand, H);
      for (Index b = 0; b < B; ++b) gates_of<begin, end>(t, b);
      if constexpr (p + 1 < Cell::phases) team.sync();
      phase<p + 1>(t, from_zeros, sums_of, [&](Index b) -> const Real* { return kept(t, b); });
    }
  }
  template <int g, int end>
  void gates_of(Index t, Index b) {
    if constexpr (g < end) {
      const Real* const h = state_before(t, b);
      const auto cell = [&]<int N>(Constant<N>, Index unit) {
        ForwardRow<Real, N> u{{H, H - unit, (h ? h : zeros) + unit, kept(t, b) + unit},
                              f.y.at(t, b) + unit};
        Cell::template forward<g>(
            u, Wide<Real, N>::map([&](int j) { return load(chain(t, b, g) + unit + j * lanes); }));
      };
      Index unit = from;
      for (; unit + 3 * lanes <= until; unit += 3 * lanes) cell(Constant<3>{}, unit);
      for (; unit < until; unit += lanes) cell(Constant<1>{}, unit);
      gates_of<g + 1, end>(t, b);
    }
  }
};

template <class Cell, class Real>
void few_steps(const Forward<Real>& f, const Weights<Real>& w, Team team) {
  Arena scratch(f.scratch);
  FewSteps<Cell, Real>(f, w, team, scratch).run();
}

template <class Cell, class Real>
Index few_steps_scratch_bytes(const Forward<Real>& f) {
  Arena scratch(nullptr);
  FewSteps<Cell, Real>(f, Weights<Real>{}, Team{}, scratch);
  return scratch.used;
}

}  // namespace

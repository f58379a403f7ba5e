// SPDX-License-Identifier: MIT
// One step of a few sequences, straight from the caller's weights: packing them would cost more
// than the step. The same chains as in sequence.h, so the same bits. Depends on sequence.h.
#pragma once

#include "sequence.h"

namespace {

// sums[0..n) += sum_k a[k] W[c, k], k in ascending order. W is read row by row as it lies, a few
// rows to each pass over the sums.
template <class Real>
void add_product(Real* sums, Index n, Matrix<const Real> W, const Real* a, Index K) {
  constexpr Index lanes = kLanes<Real>;
  const auto rows = [&]<int R>(Constant<R>, Index k) {
    Vec<Real> a_k[R];
    const Real* from[R];
    for (int r = 0; r < R; ++r) {
      a_k[r] = broadcast(a[k + r]);
      from[r] = W.at(0, k + r);
    }
    const auto add = [&](Index c, auto load_weights) {
      Vec<Real> sum = load(sums + c);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum = fma(a_k[r], load_weights(from[r] + c), sum);
      store(sums + c, sum);
    };
    Index c = 0;
    for (; c + lanes <= n; c += lanes) add(c, [](const Real* w) { return load(w); });
    if (c < n) add(c, [&](const Real* w) { return load_part(w, n - c); });
  };
  Index k = 0;
  for (; k + 8 <= K; k += 8) rows(Constant<8>{}, k);
  for (; k < K; ++k) rows(Constant<1>{}, k);
}

template <class Cell, class Real>
struct OneStep {
  static constexpr Index lanes = kLanes<Real>;

  const Forward<Real>& f;
  const Weights<Real>& w;
  const Index H, padded;
  Real* sums;   // [gate][padded] the chains
  Real* apart;  // [padded] U h' + b_h of the cell's gate `apart`
  Real* slots;  // [S][H] what passes from phase to phase when there is no tape
  Real* zeros;  // [H] the state that no h_0 is

  OneStep(const Forward<Real>& args, const Weights<Real>& weights, Arena& scratch)
      : f(args), w(weights), H(args.shape.H), padded(vectors_of<Real>(H) * lanes) {
    sums = scratch.take<Real>(Cell::gates * padded);
    apart = scratch.take<Real>(padded);
    slots = scratch.take<Real>(Cell::slots * H);
    zeros = scratch.take<Real>(H);
  }

  void run() {
    __builtin_memset(zeros, 0, static_cast<std::size_t>(H) * sizeof(Real));
    for (Index b = 0; b < f.shape.B; ++b) {
      const Real* const h = f.h_0 ? f.h_0.at(b) : nullptr;
      Real* const tape = f.tape ? f.tape.at(0, b) : nullptr;
      for (int g = 0; g < Cell::gates; ++g) {
        start(sums + g * padded, g, true, g != Cell::apart);
        add_product(sums + g * padded, H, gate(w.W, g), f.x.at(0, b), f.shape.I);
      }
      if constexpr (Cell::gates_together)
        all_gates(h, f.y.at(0, b), tape);
      else
        phases<0>(h, f.y.at(0, b), tape ? tape : slots);
      __builtin_memmove(f.h_n.at(b), f.y.at(0, b), static_cast<std::size_t>(H) * sizeof(Real));
    }
  }

  // The rows of one gate.
  Matrix<const Real> gate(Matrix<const Real> m, int g) const {
    return {m.at(g * H, 0), m.row_stride, m.column_stride};
  }

  // Begins one gate's chains with its biases or, without a sum that would lose a -0, one of them.
  void start(Real* to, int g, bool with_x, bool with_h) const {
    const auto b = [&](const Real* bias, Index j) {
      return bias && j < H ? bias[g * H + j] : Real(0);
    };
    for (Index j = 0; j < padded; ++j) {
      const Real b_x = b(w.b_x, j), b_h = b(w.b_h, j);
      to[j] = !with_h ? b_x : !with_x ? b_h : b_x + b_h;
    }
  }

  // A cell that takes all gates of some units at once.
  void all_gates(const Real* h, Real* y, Real* tape) {
    const auto recurrent = [&](int g) { return g == Cell::apart ? apart : sums + g * padded; };
    start(apart, Cell::apart, false, true);
    if (h)
      for (int g = 0; g < Cell::gates; ++g) add_product(recurrent(g), H, gate(w.U, g), h, H);
    const auto cell = [&]<int N>(Constant<N>, Index unit) {
      ForwardUnits<Real, N> u;
      u.H = H;
      u.units = H - unit;
      for (int j = 0; j < N; ++j) {
        const Index at = unit + j * lanes;
        u.from_h[j] = (h ? h : zeros) + at;
        u.from_x[j] = sums + Cell::apart * padded + at;
        u.to_h[j] = y + at;
        u.tape[j] = tape ? tape + at : nullptr;
      }
      const auto chains = [&](const Real* from) {
        return Wide<Real, N>::map([&](int j) { return load(from + unit + j * lanes); });
      };
      Wide<Real, N> all[Cell::gates];
      for (int g = 0; g < Cell::gates; ++g) all[g] = chains(recurrent(g));
      Cell::forward(u, all);
    };
    Index unit = 0;
    for (; unit + kOverlap * lanes <= H; unit += kOverlap * lanes) cell(Constant<kOverlap>{}, unit);
    for (; unit < H; unit += lanes) cell(Constant<1>{}, unit);
  }

  // A cell that takes one gate after the other.
  template <int phase>
  void phases(const Real* h, Real* y, Real* kept) {
    if constexpr (phase < Cell::phases) {
      gates_of<phase, Cell::first_group[phase]>(phase == 0 ? h : h ? kept : nullptr, h, y, kept);
      phases<phase + 1>(h, y, kept);
    }
  }
  template <int phase, int g>
  void gates_of(const Real* operand, const Real* h, Real* y, Real* kept) {
    if constexpr (g < Cell::first_group[phase + 1]) {
      Real* const s = sums + g * padded;
      if (operand) add_product(s, H, gate(w.U, g), operand, H);
      const auto cell = [&]<int N>(Constant<N>, Index unit) {
        ForwardRow<Real, N> u{{H, H - unit, (h ? h : zeros) + unit, kept + unit}, y + unit};
        Cell::template forward<g>(
            u, Wide<Real, N>::map([&](int j) { return load(s + unit + j * lanes); }));
      };
      Index unit = 0;
      for (; unit + 3 * lanes <= H; unit += 3 * lanes) cell(Constant<3>{}, unit);
      for (; unit < H; unit += lanes) cell(Constant<1>{}, unit);
      gates_of<phase, g + 1>(operand, h, y, kept);
    }
  }
};

template <class Cell, class Real>
void one_step(const Forward<Real>& f, const Weights<Real>& w) {
  Arena scratch(f.scratch);
  OneStep<Cell, Real>(f, w, scratch).run();
}

template <class Cell, class Real>
Index one_step_scratch_bytes(const Forward<Real>& f) {
  Arena scratch(nullptr);
  OneStep<Cell, Real>(f, Weights<Real>{}, scratch);
  return scratch.used;
}

}  // namespace

// SPDX-License-Identifier: MIT
// The Elman network (Elman 1990): h = f(W x + b_x + U h' + b_h) with f = tanh or relu.
//
// Its gradient needs h alone: tanh' = 1 - h^2, relu' = 1 where h > 0. The one slot of its tape
// holds h in the forward pass and ds in the backward pass. Depends on cell.h and math.h; `u` is
// explained in gru.h.
#pragma once

#include "cell.h"
#include "math.h"

namespace {

template <bool relu>
struct Elman {
  static constexpr int gates = 1;
  static constexpr int slots = 1;
  enum Slot { s };
  static constexpr int gate_of_slot[slots] = {0};
  static constexpr int phases = 1;
  static constexpr bool gates_together = false;
  static constexpr int apart = none_apart;
  static constexpr int first_group[phases + 1] = {0, 1};
  static constexpr int second_gradient = 0, second_gate = 0;  // no phase 1

  template <int gate, class Units, class V>
  [[gnu::always_inline]] static void forward(Units& u, V s_) {
    V h;
    if constexpr (relu)
      h = at_least(s_, 0);  // a NaN stays one
    else
      h = tanh(s_);
    u.keep(Slot::s, h);
    u.set_h(h);
  }

  // dh' = U^T ds
  static constexpr bool carries = false;
  static constexpr int dh_slot = Slot::s, dh_slots = 1;
  static constexpr int dx_slot = Slot::s;

  template <int phase, class Units, class V>
  [[gnu::always_inline]] static void backward(Units& u, V dh) {
    const V h = u.kept(Slot::s);
    if constexpr (relu)
      u.keep(Slot::s, where_positive(h, dh));
    else
      u.keep(Slot::s, dh * (V::of(1) - h * h));
  }

  static constexpr int gradient_groups = 1;
  static constexpr GradientGroup gradient_group[gradient_groups] = {
      {Slot::s, 1, 0, true, Operand::h_prev}};
};

}  // namespace

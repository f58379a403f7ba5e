// SPDX-License-Identifier: MIT
// The gated recurrent unit (Cho et al. 2014), with the reset gate after or before its product.
//
//   r = sigmoid(W_r x + b_xr + U_r h' + b_hr)
//   z = sigmoid(W_z x + b_xz + U_z h' + b_hz)
//   after :  q = U_n h' + b_hn          n = tanh(W_n x + b_xn + r * q)
//   before:                             n = tanh(W_n x + b_xn + U_n (r * h') + b_hn)
//   h = z * h' + (1 - z) * n
//
// A cell is mathematics on registers of units (Wide, simd.h). `u` gives it what belongs to those
// units in this step (u.h_prev(), u.kept(slot)) and takes what it computes (u.keep(slot, value),
// u.set_h(h)); the products, the memory and the time loop are sequence.h's. Depends on cell.h and
// math.h.
#pragma once

#include "cell.h"
#include "math.h"

namespace {

// z * h' + (1 - z) * n, exactly h' where z is 1 and exactly n where z is 0.
template <class V>
inline V blend(V z, V h_prev, V n) {
  return fma(z, h_prev, fma(-z, n, n));
}

struct GruAfter {
  static constexpr int gates = 3;
  static constexpr int slots = 4;  // of the tape
  enum Slot { q, r, z, n };
  static constexpr int gate_of_slot[slots] = {2, 0, 1, 2};
  static constexpr int phases = 1;
  static constexpr bool gates_together = true;  // one product: s_r, s_z and q of the same units
  static constexpr int apart = 2;               // q = U_n h' + b_hn, beside W_n x + b_xn
  static constexpr int first_group[phases + 1] = {0, 1};
  static constexpr int second_gradient = 0, second_gate = 0;  // no phase 1

  template <class Units, class V>
  [[gnu::always_inline]] static void forward(Units& u, const V (&s)[gates]) {
    const V r_ = sigmoid(s[0]);
    const V z_ = sigmoid(s[1]);
    const V q_ = s[apart];
    const V n_ = tanh(fma(r_, q_, u.input_part()));
    u.keep(Slot::q, q_);
    u.keep(Slot::r, r_);
    u.keep(Slot::z, z_);
    u.keep(Slot::n, n_);
    u.set_h(blend(z_, u.h_prev(), n_));
  }

  // dh' = dh z + U_r^T ds_r + U_z^T ds_z + U_n^T dq: the first is carried, the last three are one
  // product over slots q, r, z.
  static constexpr bool carries = true;
  static constexpr int dh_slot = Slot::q, dh_slots = 3;
  static constexpr int dx_slot = Slot::r;  // dx = W^T [ds_r; ds_z; ds_n]

  template <int phase, class Units, class V>
  [[gnu::always_inline]] static void backward(Units& u, V dh) {
    const V one = V::of(1);
    const V r_ = u.kept(Slot::r), z_ = u.kept(Slot::z), n_ = u.kept(Slot::n);
    const V ds_n = dh * (one - z_) * (one - n_ * n_);
    const V ds_z = dh * (u.h_prev() - n_) * z_ * (one - z_);
    const V ds_r = ds_n * u.kept(Slot::q) * r_ * (one - r_);
    u.keep(Slot::n, ds_n);
    u.keep(Slot::z, ds_z);
    u.keep(Slot::r, ds_r);
    u.keep(Slot::q, ds_n * r_);  // dq
    u.set_carry(dh * z_);
  }

  static constexpr int gradient_groups = 3;
  static constexpr GradientGroup gradient_group[gradient_groups] = {
      {Slot::r, 2, 0, true, Operand::h_prev},
      {Slot::n, 1, 2, true, Operand::none},
      {Slot::q, 1, 2, false, Operand::h_prev}};
};

struct GruBefore {
  static constexpr int gates = 3;
  static constexpr int slots = 4;
  enum Slot { rh, r, z, n };  // rh = r * h', the operand of the second product
  static constexpr int gate_of_slot[slots] = {2, 0, 1, 2};
  static constexpr int phases = 2;
  static constexpr bool gates_together = false;
  static constexpr int apart = none_apart;
  static constexpr int first_group[phases + 1] = {0, 2, 3};         // phase 0: r and z; phase 1: n
  static constexpr int second_gradient = Slot::n, second_gate = 2;  // g = U_n^T ds_n

  template <int gate, class Units, class V>
  [[gnu::always_inline]] static void forward(Units& u, V s) {
    if constexpr (gate == 0) {
      const V r_ = sigmoid(s);
      u.keep(Slot::r, r_);
      u.keep(Slot::rh, r_ * u.h_prev());
    } else if constexpr (gate == 1) {
      u.keep(Slot::z, sigmoid(s));
    } else {
      const V n_ = tanh(s);
      u.keep(Slot::n, n_);
      u.set_h(blend(u.kept(Slot::z), u.h_prev(), n_));
    }
  }

  // g = U_n^T ds_n ; dh' = dh z + g r + U_r^T ds_r + U_z^T ds_z, the first two carried
  static constexpr bool carries = true;
  static constexpr int dh_slot = Slot::r, dh_slots = 2;
  static constexpr int dx_slot = Slot::r;

  template <int phase, class Units, class V>
  [[gnu::always_inline]] static void backward(Units& u, V product) {
    const V one = V::of(1);
    if constexpr (phase == 0) {
      const V dh = product;
      const V z_ = u.kept(Slot::z), n_ = u.kept(Slot::n);
      u.keep(Slot::n, dh * (one - z_) * (one - n_ * n_));         // ds_n
      u.keep(Slot::z, dh * (u.h_prev() - n_) * z_ * (one - z_));  // ds_z
      u.set_carry(dh * z_);
    } else {
      const V g = product;
      const V r_ = u.kept(Slot::r);
      u.keep(Slot::r, g * u.h_prev() * r_ * (one - r_));  // ds_r
      u.set_carry(fma(g, r_, u.carry()));
    }
  }

  static constexpr int gradient_groups = 2;
  static constexpr GradientGroup gradient_group[gradient_groups] = {
      {Slot::r, 2, 0, true, Operand::h_prev}, {Slot::n, 1, 2, true, Operand::slot_0}};
};

}  // namespace

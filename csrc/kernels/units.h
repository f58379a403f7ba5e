// SPDX-License-Identifier: MIT
// What a cell sees of one step: some units' values of the step before, what is kept for BPTT, and
// where its results go. Several registers at once (Wide), so that chains of arithmetic overlap.
// Depends on simd.h.
#pragma once

#include "simd.h"

namespace {

// N registers of all gates, of units of any sequences: one entry for each. Only a single one may be
// incomplete.
template <class Real, int N>
struct ForwardUnits {
  using V = Wide<Real, N>;
  Index H;
  Index units;            // that exist, from a register's first on
  const Real* from_h[N];  // h'
  const Real* from_x[N];  // W x + b_x of the cell's gate `apart`
  Real* to_h[N];
  Real* tape[N];  // this sequence's (S, H) from these units on, or null

  Index count() const { return N > 1 ? kLanes<Real> : units; }
  V input_part() const {
    return V::map([&](int i) { return load(from_x[i]); });
  }
  V h_prev() const {
    return V::map([&](int i) { return load_some(from_h[i], count()); });
  }
  void keep(int slot, const V& value) {
    if (!tape[0]) return;
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store_some(tape[i] + slot * H, value.part[i], count());
  }
  void set_h(const V& h) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store_some(to_h[i], h.part[i], count());
  }
};

// N neighbouring registers of one sequence's units; only a single one may be incomplete.
template <class Real, int N>
struct RowUnits {
  using V = Wide<Real, N>;
  static constexpr Index lanes = kLanes<Real>;
  Index H;
  Index units;         // that exist, from these on
  const Real* from_h;  // h'
  Real* tape;          // this sequence's (S, H) from these units on; forward: or null

  Index count() const { return N > 1 ? lanes : units; }
  V load_units(const Real* from) const {
    return V::map([&](int i) { return load_some(from + i * lanes, count()); });
  }
  void store_units(Real* to, const V& value) const {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store_some(to + i * lanes, value.part[i], count());
  }
  V h_prev() const { return load_units(from_h); }
  V kept(int slot) const { return load_units(tape + slot * H); }
};

template <class Real, int N>
struct ForwardRow : RowUnits<Real, N> {
  using V = Wide<Real, N>;
  Real* to_h;

  void keep(int slot, const V& value) {
    if (this->tape) this->store_units(this->tape + slot * this->H, value);
  }
  void set_h(const V& h) { this->store_units(to_h, h); }
};

template <class Real, int N>
struct BackwardRow : RowUnits<Real, N> {
  using V = Wide<Real, N>;
  static constexpr Index lanes = kLanes<Real>;
  Real* to_carry;  // what of dh' needs no product, e.g. dh z

  void keep(int slot, const V& value) { this->store_units(this->tape + slot * this->H, value); }
  V carry() const {
    return V::map([&](int i) { return load(to_carry + i * lanes); });
  }
  void set_carry(const V& value) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) store(to_carry + i * lanes, value.part[i]);
  }
};

}  // namespace

// SPDX-License-Identifier: MIT
// A layer's weights in the order its products read them: for the forward pass panels of gates, of
// depth I or H; for BPTT panels of what the gradient is of, whose depth runs over the gates.
// Depends on panels.h, memory.h and cell.h.
#pragma once

#include "cell.h"
#include "memory.h"
#include "panels.h"

namespace {

using pygru::Shape;
using pygru::Weights;

// How a cell's gates lie in packed weights: all together, or one group of panels a gate.
template <class Cell, class Real>
struct GatePanels {
  Index H;
  Index per_gate = vectors_of<Real>(H);    // registers of units
  Index vectors = Cell::gates * per_gate;  // registers in all
  static constexpr int groups = Cell::gates_together ? 1 : Cell::gates;
  static_assert(!Cell::gates_together || Cell::gates == kTileVectors, "a panel holds all gates");
  static_assert(Cell::apart == none_apart ||
                    (Cell::gates_together && Cell::apart == Cell::gates - 1),
                "its chains lie behind all others");

  Panels panels() const { return Panels(vectors / groups); }
  // Calls visit(first register of a group, which column of (G*H) a register holds).
  template <class Visit>
  void each(Visit visit) const {
    for (int g = 0; g < groups; ++g) {
      const GatePanels self = *this;
      visit(g * per_gate, [self, g](Index v) -> Lane {
        if constexpr (Cell::gates_together) return GatesTogether<Real>{self.H}(v);
        const Lane lane = InOrder<Real>{self.H}(v);
        return {g * self.H + lane.first, lane.count};
      });
    }
  }
};

// ---- packed weights ----

template <class Real>
struct PackedForward {
  Real* W;           // panels of depth I
  Real* U;           // panels of depth H
  Real* bias;        // [register][lanes]: starts the chains of x W^T
  Real* bias_apart;  // [register of units][lanes]: starts U h' + b_h of the cell's gate `apart`
};

template <class Cell, class Real>
PackedForward<Real> packed_forward(Arena& arena, Shape s) {
  const GatePanels<Cell, Real> g{s.H};
  constexpr Index lanes = kLanes<Real>;
  return {arena.take<Real>(g.vectors * lanes * s.I), arena.take<Real>(g.vectors * lanes * s.H),
          arena.take<Real>(g.vectors * lanes),
          arena.take<Real>(Cell::apart != none_apart ? g.per_gate * lanes : 0)};
}

template <class Cell, class Real>
void pack_forward(void* memory, Shape s, const Weights<Real>& w, Team team) {
  Arena arena(memory);
  const PackedForward<Real> to = packed_forward<Cell, Real>(arena, s);
  const GatePanels<Cell, Real> gates{s.H};
  constexpr Index lanes = kLanes<Real>;
  const auto b = [](const Real* bias, Index column) { return bias ? bias[column] : Real(0); };
  gates.each([&](Index v_0, auto columns) {
    const Panels panels = gates.panels();
    const Range part = share(panels.count(), team);
    pack(to.W + v_0 * lanes * s.I, panels, s.I, {0, s.I}, w.W, columns, part);
    pack(to.U + v_0 * lanes * s.H, panels, s.H, {0, s.H}, w.U, columns, part);
    if (team.rank > 0) return;
    for (Index v = 0; v < panels.vectors; ++v) {
      const Lane lane = columns(v);
      const bool apart = lane.first / s.H == Cell::apart;
      for (Index i = 0; i < lanes; ++i) {
        const Index c = lane.first + i;
        const Real b_x = i < lane.count ? b(w.b_x, c) : Real(0);
        const Real b_h = i < lane.count ? b(w.b_h, c) : Real(0);
        to.bias[(v_0 + v) * lanes + i] = apart ? b_x : b_x + b_h;
        if (apart) to.bias_apart[v / Cell::gates * lanes + i] = b_h;
      }
    }
  });
}

template <class Cell, class Real>
Index packed_forward_bytes(Shape s) {
  Arena arena(nullptr);
  packed_forward<Cell, Real>(arena, s);
  return arena.used;
}

// ---- packed weights: the panels run over what the gradient is of, the depth over gates ----

// So few inputs would leave lanes of a panel empty: dx is then sums along the gates (dots). 16
// bytes' worth of them: the register of the instruction set must not decide.
template <class Real>
constexpr Index kNarrowInput = 16 / static_cast<Index>(sizeof(Real));

template <class Real>
struct PackedBackward {
  Real* U;         // depth dh_slots H: brings dh' back
  Real* U_second;  // depth H, of the gate of a second phase, where the cell has one
  Real* W;         // depth G H: gives dx; (I, G H) where the input is narrow
};

template <class Cell, class Real>
PackedBackward<Real> packed_backward(Arena& arena, Shape s, bool with_dx) {
  const Index units = vectors_of<Real>(s.H) * kLanes<Real>;
  const Index inputs = s.I > kNarrowInput<Real> ? vectors_of<Real>(s.I) * kLanes<Real> : s.I;
  return {arena.take<Real>(units * Cell::dh_slots * s.H),
          arena.take<Real>(Cell::phases > 1 ? units * s.H : 0),
          arena.take<Real>(with_dx ? inputs * Cell::gates * s.H : 0)};
}

template <class Cell, class Real>
void pack_backward(void* memory, Shape s, const Weights<Real>& w, bool with_dx, Team team) {
  Arena arena(memory);
  const PackedBackward<Real> to = packed_backward<Cell, Real>(arena, s, with_dx);
  // The rows of one gate, seen from the other side: (columns, H).
  const auto gate = [&](Matrix<const Real> m, int g) {
    return Matrix<const Real>{m.at(g * s.H, 0), m.column_stride, m.row_stride};
  };
  const Panels units(vectors_of<Real>(s.H)), inputs(vectors_of<Real>(s.I));
  const InOrder<Real> unit_columns{s.H}, input_columns{s.I};
  const Range part = share(units.count(), team);
  for (int j = 0; j < Cell::dh_slots; ++j)
    pack(to.U, units, Cell::dh_slots * s.H, {j * s.H, (j + 1) * s.H},
         gate(w.U, Cell::gate_of_slot[Cell::dh_slot + j]), unit_columns, part);
  if (Cell::phases > 1)
    pack(to.U_second, units, s.H, {0, s.H}, gate(w.U, Cell::second_gate), unit_columns, part);
  const Index depth = Cell::gates * s.H;
  if (with_dx && s.I > kNarrowInput<Real>)
    pack(to.W, inputs, depth, {0, depth}, gate(w.W, 0), input_columns, share(inputs.count(), team));
  else if (with_dx && team.rank == 0)
    for (Index i = 0; i < s.I; ++i)
      for (Index c = 0; c < depth; ++c) to.W[i * depth + c] = *w.W.at(c, i);
}

template <class Cell, class Real>
Index packed_backward_bytes(Shape s, bool with_dx) {
  Arena arena(nullptr);
  packed_backward<Cell, Real>(arena, s, with_dx);
  return arena.used;
}

}  // namespace

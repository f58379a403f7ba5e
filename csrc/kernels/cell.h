// SPDX-License-Identifier: MIT
// What a cell says about itself, for the loops that do not know it.
#pragma once

namespace {

// The gate whose W x + b_x and U h' + b_h reach the cell apart from each other, where there is one;
// of the others the cell sees the sum.
constexpr int none_apart = -1;

// The gradients of `slots` gates, from a slot of the tape on, belong to the weights of the gates
// from `gate` on, against x (`of_W`) and against what U was multiplied with.
enum class Operand { none, h_prev, slot_0 };
struct GradientGroup {
  int slot, slots, gate;
  bool of_W;
  Operand of_U;
};

}  // namespace

// SPDX-License-Identifier: MIT
// What a cell says about its weight gradients, which sequence_backward.h makes.
#pragma once

namespace {

// The gradients of `slots` gates, from a slot of the tape on, belong to the weights of the gates
// from `gate` on, against x (`of_W`) and against what U was multiplied with.
enum class Operand { none, h_prev, slot_0 };
struct GradientGroup {
  int slot, slots, gate;
  bool of_W;
  Operand of_U;
};

}  // namespace

// SPDX-License-Identifier: MIT
// What a cell says about itself, for the loops that do not know it. A cell is a struct of constants
// and of two functions on registers of units; gru.h and rnn.h hold them.
//
//   gates, slots              G; S, what the tape keeps of a unit
//   Slot                      the slots by name: what one product reads lies side by side
//   gate_of_slot[slots]       the gate whose gradient BPTT leaves in a slot
//
// Forward, a step is `phases` rounds of products, each with U of some gates. With a second one,
// slot 0 is what it multiplies with U where the first takes h', and is 0 where h' is: without a
// state to start from neither is multiplied.
//
//   gates_together            a panel is all gates of some units; else each gate has its own panels
//   first_group[phases + 1]   phase p computes the groups of panels from first_group[p] up to
//                             first_group[p + 1]: all gates together are one, else each is one
//   apart                     the gate of which the cell gets W x + b_x and U h' + b_h apart from
//                             each other, the last one where gates_together, or none_apart; of the
//                             others it gets the sum
//   forward(u, s), or         on pre-activations s of all gates of some units,
//   forward<gate>(u, s)       or of one gate after the other
//
// Backward, a product brings dh' from the step after, and a second phase has one of its own:
//
//   dh_slot, dh_slots         dh' sums U^T times the gradients in these slots
//   carries                   whether part of dh' needs no product
//   second_gradient,          the slot that phase 1 multiplies with U^T
//   second_gate               of this gate
//   backward<phase>(u, sum)   from dh, or what phase 1 multiplied, to the gates' gradients
//   dx_slot                   dx = W^T times the gradients in the `gates` slots from here on
//   gradient_group[],         which slots are the gradients of which rows of the weights
//   gradient_groups
#pragma once

namespace {

constexpr int none_apart = -1;

// What U was multiplied with.
enum class Operand { none, h_prev, slot_0 };
// The gradients of `slots` gates, from a slot of the tape on, belong to the weights of the gates
// from `gate` on, against x (`of_W`) and against what U was multiplied with.
struct GradientGroup {
  int slot, slots, gate;
  bool of_W;
  Operand of_U;
};

}  // namespace

// SPDX-License-Identifier: MIT
#include "stream.h"

#include <algorithm>

#include "isa.h"
#include "plan.h"
#include "thread_count.h"
#include "thread_pool.h"

namespace pygru {
namespace {

template <class Real>
const CellKernels<Real>& cell_of(const KernelTable& table, Cell cell) {
  return kernels_of<Real>(table).cell[static_cast<int>(cell)];
}

}  // namespace

template <class Real>
PackedModel<Real>::PackedModel(const std::vector<LayerWeights<Real>>& layers) : table(kernels()) {
  for (const LayerWeights<Real>& from : layers) {
    Layer& to = layers_.emplace_back(from.recurrent, from.cell, from.inputs, from.outputs);
    if (from.recurrent) {
      const CellKernels<Real>& kernel = cell_of<Real>(table, from.cell);
      const Shape shape = {.T = 0, .B = 0, .I = from.inputs, .H = from.outputs};
      kernel.pack_forward(to.packed.reserve(kernel.packed_forward_bytes(shape)), shape,
                          from.weights, Team{});
    } else {
      const LinearKernels<Real>& kernel = kernels_of<Real>(table).linear;
      kernel.pack(to.packed.reserve(kernel.packed_bytes(from.inputs, from.outputs)), from.inputs,
                  from.outputs, from.weights.W, from.weights.b_x);
    }
  }
}

template <class Real>
Stream<Real>::Stream(std::shared_ptr<const PackedModel<Real>> model, Index batch)
    : model_(std::move(model)), batch_(batch) {
  Index widest = 0;
  for (const auto& layer : model_->layers()) {
    widest = std::max(widest, layer.outputs);
    if (layer.recurrent) states_.emplace_back(static_cast<std::size_t>(batch * layer.outputs));
  }
  for (auto& buffer : between_) buffer.resize(static_cast<std::size_t>(kSteps * batch * widest));
  reserve_scratch();
}

// The most that a step or a block can want with as many threads as there are now.
template <class Real>
void Stream<Real>::reserve_scratch() {
  threads_ = num_threads();
  cuts_.resize(static_cast<std::size_t>(threads_) + 1);
  for (const auto& layer : model_->layers()) {
    if (!layer.recurrent) continue;
    for (const Index T : {Index{1}, kSteps}) {
      Forward<Real> args;
      args.shape = {T, batch_, layer.inputs, layer.outputs};
      args.cuts = cuts_.data();
      scratch_.reserve(
          cell_of<Real>(model_->table, layer.cell).forward_scratch_bytes(args, threads_));
    }
  }
}

template <class Real>
void Stream<Real>::run(const Real* x, Index T, Real* y) {
  if (num_threads() != threads_) reserve_scratch();
  const auto& layers = model_->layers();
  for (; T > 0; T -= kSteps) {
    const Index steps = std::min(T, kSteps);
    const Real* in = x;
    auto state = states_.begin();
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Real* const out = i + 1 == layers.size() ? y : between_[i % 2].data();
      if (layers[i].recurrent)
        run_recurrent(layers[i], *state++, in, steps, out);
      else
        run_linear(layers[i], in, steps, out);
      in = out;
    }
    steps_ += steps;
    x += steps * batch_ * inputs();
    y += steps * batch_ * outputs();
  }
}

template <class Real>
void Stream<Real>::run_recurrent(const typename PackedModel<Real>::Layer& layer,
                                 std::vector<Real>& state, const Real* x, Index T, Real* y) {
  const CellKernels<Real>& kernel = cell_of<Real>(model_->table, layer.cell);
  const Index I = layer.inputs, H = layer.outputs, B = batch_;
  Forward<Real> args;
  args.shape = {T, B, I, H};
  args.x = {x, B * I, I};
  args.h_0 = {state.data(), H};
  args.steps_before = steps_;
  args.packed = layer.packed.get();
  args.y = {y, B * H, H};
  args.h_n = {state.data(), H};  // written when h_0 has been read
  args.scratch = scratch_.get();
  Plan plan = plan_layer(model_->table, args.shape, static_cast<double>(T * B), kernel.gates, 1);
  plan.size = std::min(plan.size, threads_);  // what scratch and cuts are for, whatever has changed
  if (plan.size == 1) return kernel.forward(args, Team{});
  args.split = plan.split;
  for (Index member = 0; member <= plan.size; ++member)
    cuts_[static_cast<std::size_t>(member)] = B * member / plan.size;
  args.cuts = cuts_.data();
  Barrier barrier(plan.size);
  run_team(plan.size, [&](Index rank, Index size) {
    if (size == plan.size)
      kernel.forward(args, Team{rank, size, Barrier::wait_on, &barrier});
    else if (rank == 0)
      kernel.forward(args, Team{});
  });
}

template <class Real>
void Stream<Real>::run_linear(const typename PackedModel<Real>::Layer& layer, const Real* x,
                              Index T, Real* y) {
  Linear<Real> args;
  args.N = T * batch_, args.K = layer.inputs, args.M = layer.outputs;
  args.x = {x, args.K, 1};
  args.y = {y, args.M, 1};
  args.packed = layer.packed.get();
  kernels_of<Real>(model_->table).linear.forward(args, Team{});
}

template class PackedModel<float>;
template class PackedModel<double>;
template class Stream<float>;
template class Stream<double>;

}  // namespace pygru

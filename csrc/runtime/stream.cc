// SPDX-License-Identifier: MIT
// Packs a model once, then walks its layers for every step or block; what passes between layers
// goes through two buffers in turn.
#include "stream.h"

#include <algorithm>
#include <utility>

#include "isa.h"
#include "teams.h"
#include "thread_count.h"

namespace pygru {

template <class Real>
PackedModel<Real>::PackedModel(const std::vector<LayerWeights<Real>>& layers) : table(kernels()) {
  for (const LayerWeights<Real>& from : layers) {
    layers_.push_back({from.recurrent, from.cell, from.inputs, from.outputs, {}});
    Layer& to = layers_.back();
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
  const auto& layers = model_->layers();
  Index widest = 0;  // of what passes between layers
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Index H = layers[i].outputs;
    if (i + 1 < layers.size()) widest = std::max(widest, H);
    if (layers[i].recurrent) states_.emplace_back(static_cast<std::size_t>(batch * H));
    const double gates =
        layers[i].recurrent ? cell_of<Real>(model_->table, layers[i].cell).gates : 1;
    const Index K = layers[i].inputs + (layers[i].recurrent ? H : 0);
    operations_ += 2 * gates * static_cast<double>(H) * static_cast<double>(K * batch);
  }
  const Index step_bytes = batch * widest * static_cast<Index>(sizeof(Real));
  block_steps_ = std::clamp<Index>(kBlockBytes / std::max<Index>(1, step_bytes), 1, kMostSteps);
  for (std::size_t i = 0; i + 1 < layers.size() && i < 2; ++i)
    between_[i].resize(static_cast<std::size_t>(block_steps_ * batch * widest));
  reserve_scratch();
}

// The most that a step or a block can want with as many threads as there are now, or alone where
// they can't be had.
template <class Real>
void Stream<Real>::reserve_scratch() {
  const Index threads = num_threads();
  threads_ = 0;  // until there is memory for them
  cuts_.resize(static_cast<std::size_t>(threads) + 1);
  for (const auto& layer : model_->layers()) {
    if (!layer.recurrent) continue;
    const auto bytes = cell_of<Real>(model_->table, layer.cell).forward_scratch_bytes;
    for (Index T = 1; T <= block_steps_; ++T) {
      Forward<Real> args;
      args.shape = {T, batch_, layer.inputs, layer.outputs};
      const Index size = divide(args, layer, threads).size;
      scratch_.reserve(std::max(bytes(args, size), bytes(args, 1)));
    }
  }
  threads_ = threads;
}

// Plans the call of a layer: what its team divides, and how.
template <class Real>
Plan Stream<Real>::divide(Forward<Real>& args, const typename PackedModel<Real>::Layer& layer,
                          Index threads) {
  const double steps = static_cast<double>(args.shape.T * batch_);
  const int gates = cell_of<Real>(model_->table, layer.cell).gates;
  const Plan plan = plan_layer(model_->table, args.shape, steps, gates, 1, threads);
  for (Index member = 0; member <= plan.size; ++member)
    cuts_[static_cast<std::size_t>(member)] = batch_ * member / plan.size;
  args.split = plan.split;
  args.cuts = cuts_.data();
  return plan;
}

template <class Real>
void Stream<Real>::set_state(std::size_t layer, const Real* h) {
  std::copy_n(h, states_[layer].size(), states_[layer].begin());
  fresh_ = false;
}

template <class Real>
void Stream<Real>::reset() {
  for (auto& state : states_) std::fill(state.begin(), state.end(), Real(0));
  fresh_ = true;
}

template <class Real>
void Stream<Real>::run(const Real* x, Index T, Real* y) {
  if (num_threads() != threads_) reserve_scratch();
  const auto& layers = model_->layers();
  for (; T > 0; T -= block_steps_) {
    const Index steps = std::min(T, block_steps_);
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
    fresh_ = false;
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
  if (!fresh_) args.h_0 = {state.data(), H};  // as in a whole run, zeros meet no weight
  args.steps_before = steps_;
  args.packed = layer.packed.get();
  args.y = {y, B * H, H};
  args.h_n = {state.data(), H};  // written when h_0 has been read
  args.scratch = scratch_.get();
  const Plan plan = divide(args, layer, threads_);
  run_one_team(plan, [&](Team team) { kernel.forward(args, team); });
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

// SPDX-License-Identifier: MIT
// Packs a model once, then walks its layers for every step or block; what passes between layers
// goes through two buffers in turn.
#include "stream.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "isa.h"
#include "teams.h"
#include "thread_count.h"

namespace pygru {

template <class Real>
PackedModel<Real>::PackedModel(const std::vector<LayerWeights<Real>>& layers) : table(kernels()) {
  for (const auto& [outline, weights, w] : layers) {
    Layer& to = layers_.emplace_back(Layer{outline, {}});
    const Index K = outline.inputs, M = outline.outputs;
    switch (outline.kind) {
      case LayerKind::embedding: {
        auto* const to_rows =
            static_cast<Real*>(to.packed.reserve(K * M * static_cast<Index>(sizeof(Real))));
        for (Index k = 0; k < K; ++k) std::copy_n(weights.W.at(k, 0), M, to_rows + k * M);
        break;
      }
      case LayerKind::cell: {
        const CellKernels<Real>& kernel = cell_of<Real>(table, outline.cell);
        const Shape shape = {.T = 0, .B = 0, .I = K, .H = M};
        kernel.pack_forward(to.packed.reserve(kernel.packed_forward_bytes(shape)), shape, weights,
                            Team{});
        break;
      }
      case LayerKind::linear: {
        const LinearKernels<Real>& kernel = kernels_of<Real>(table).linear;
        kernel.pack(to.packed.reserve(kernel.packed_bytes(K, M)), K, M, weights.W, weights.b_x,
                    Team{});
        break;
      }
      case LayerKind::layer_norm: {  // w, then b
        auto* const both =
            static_cast<Real*>(to.packed.reserve(2 * K * static_cast<Index>(sizeof(Real))));
        std::copy_n(w, K, both);
        std::copy_n(weights.b_x, K, both + K);
        break;
      }
      case LayerKind::one_hot:
      case LayerKind::activation:
        break;
    }
  }
}

namespace {

// The work of a layer for one step of so many sequences.
double work_of(const KernelTable& table, const LayerOutline& layer, Index batch) {
  const Index K = layer.inputs, M = layer.outputs;
  switch (layer.kind) {
    case LayerKind::cell:
      return cell_work(cell_of<float>(table, layer.cell).gates, {1, batch, K, M});
    case LayerKind::linear:
      return linear_work(batch, K, M);
    default:
      return row_work(batch, M);
  }
}

}  // namespace

template <class Real>
Stream<Real>::Stream(std::shared_ptr<const PackedModel<Real>> model, Index batch)
    : model_(std::move(model)), batch_(batch) {
  const auto& layers = model_->layers();
  Index widest = 0;  // of what passes between layers
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const Index M = layers[i].outputs;
    if (i + 1 < layers.size()) widest = std::max(widest, M);
    if (layers[i].kind == LayerKind::cell)
      states_.emplace_back(static_cast<std::size_t>(batch * M));
    operations_ += work_of(model_->table, layers[i], batch);
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
    if (layer.kind != LayerKind::cell) continue;
    const auto bytes = cell_of<Real>(model_->table, layer.cell).forward_scratch_bytes;
    for (Index T = 1; T <= block_steps_; ++T) {
      Forward<Real> args;
      args.shape = {T, batch_, layer.inputs, layer.outputs};
      const Index size = divide(args, layer, threads).size;
      scratch_.reserve(bytes(args, size));
    }
  }
  threads_ = threads;
}

// Plans the call of a layer: what its team divides, and how.
template <class Real>
Plan Stream<Real>::divide(Forward<Real>& args, const Layer& layer, Index threads) {
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
void Stream<Real>::reset_sequence(Index b) {
  for (auto& state : states_) {
    const Index H = static_cast<Index>(state.size()) / batch_;
    std::fill_n(state.begin() + b * H, H, Real(0));
  }
}

template <class Real>
template <class X>
void Stream<Real>::run(const X* x, Index T, Real* y) {
  if (num_threads() != threads_) reserve_scratch();
  const auto& layers = model_->layers();
  for (; T > 0; T -= block_steps_) {
    const Index steps = std::min(T, block_steps_);
    const Real* in = nullptr;
    std::size_t i = 0;
    if constexpr (std::is_same_v<X, Real>) {
      in = x;
      x += steps * batch_ * inputs();
    } else {
      look_up(layers[i++], x, steps * batch_, between_[0].data());
      in = between_[0].data();
      x += steps * batch_;
    }
    auto state = states_.begin();
    for (; i < layers.size(); ++i) {
      Real* const out = i + 1 == layers.size() ? y : between_[i % 2].data();
      if (layers[i].kind == LayerKind::cell)
        run_cell(layers[i], *state++, in, steps, out);
      else
        run_rows(layers[i], in, steps * batch_, out);
      in = out;
    }
    steps_ += steps;
    fresh_ = false;
    y += steps * batch_ * outputs();
  }
}

template <class Real>
void Stream<Real>::look_up(const Layer& layer, const Index* x, Index N, Real* y) {
  const Index K = layer.inputs, M = layer.outputs;
  const auto* const rows = static_cast<const Real*>(layer.packed.get());
  for (Index i = 0; i < N; ++i, y += M) {
    // Somebody may write to x meanwhile: read once, which clamp() of a reference need not.
    const Index given = *static_cast<const volatile Index*>(x + i);
    const Index k = std::clamp<Index>(given, 0, K - 1);
    if (layer.kind == LayerKind::embedding) {
      std::copy_n(rows + k * M, M, y);
    } else {
      std::fill_n(y, M, Real(0));
      y[k] = Real(1);
    }
  }
}

template <class Real>
void Stream<Real>::run_cell(const Layer& layer, std::vector<Real>& state, const Real* x, Index T,
                            Real* y) {
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

// A layer without a state, on N rows: the steps of all sequences.
template <class Real>
void Stream<Real>::run_rows(const Layer& layer, const Real* x, Index N, Real* y) {
  const Kernels<Real>& kernels = kernels_of<Real>(model_->table);
  const Index K = layer.inputs, M = layer.outputs;
  if (layer.kind == LayerKind::linear) {
    Linear<Real> args;
    args.N = N, args.K = K, args.M = M;
    args.x = {x, K, 1};
    args.y = {y, M, 1};
    args.packed = layer.packed.get();
    run_one_team(plan_linear(N, K, M), [&](Team team) { kernels.linear.forward(args, team); });
  } else if (layer.kind == LayerKind::layer_norm) {
    const auto* const w = static_cast<const Real*>(layer.packed.get());
    kernels.layer_norm(
        {.N = N, .K = K, .x = x, .w = w, .b = w + K, .eps = static_cast<Real>(layer.eps), .y = y});
  } else {
    kernels.activation[static_cast<int>(layer.activation)].forward(
        {.N = N, .K = K, .x = x, .y = y});
  }
}

template class PackedModel<float>;
template class PackedModel<double>;
template class Stream<float>;
template class Stream<double>;
template void Stream<float>::run(const float*, Index, float*);
template void Stream<float>::run(const Index*, Index, float*);
template void Stream<double>::run(const double*, Index, double*);
template void Stream<double>::run(const Index*, Index, double*);

}  // namespace pygru

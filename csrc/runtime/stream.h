// SPDX-License-Identifier: MIT
// A whole model, step by step: packed weights that many streams share, and one stream's state.
// After construction a step allocates nothing, unless the number of threads has changed or one
// starts.
#pragma once

#include <memory>
#include <vector>

#include "../kernels/kernel_table.h"
#include "plan.h"
#include "workspace.h"

namespace pygru {

enum class LayerKind { embedding, one_hot, cell, linear, layer_norm, activation };

// Whether a layer makes vectors of integers; only the first of a stream may.
constexpr bool reads_classes(LayerKind kind) {
  return kind == LayerKind::embedding || kind == LayerKind::one_hot;
}

// What a layer of a stream is, without its weights.
struct LayerOutline {
  LayerKind kind{};
  Cell cell{};              // of LayerKind::cell
  Activation activation{};  // of LayerKind::activation
  Index inputs = 0;         // or classes, where integers are read
  Index outputs = 0;
  double eps = 0;  // of LayerKind::layer_norm
};

// One layer as it comes in: a cell has weights in one direction, a Linear W and b_x, an embedding
// W (K, M), a LayerNorm w and b_x, the others none.
template <class Real>
struct LayerWeights {
  LayerOutline outline;
  Weights<Real> weights;
  const Real* w = nullptr;  // (K,)
};

// The layers of a model with their weights packed for the instruction set in use. Never changes.
template <class Real>
class PackedModel {
 public:
  explicit PackedModel(const std::vector<LayerWeights<Real>>& layers);

  struct Layer : LayerOutline {
    Buffer packed;
  };
  const KernelTable& table;
  const std::vector<Layer>& layers() const { return layers_; }

 private:
  std::vector<Layer> layers_;
};

template <class Real>
class Stream {
 public:
  Stream(std::shared_ptr<const PackedModel<Real>> model, Index batch);

  Index batch() const { return batch_; }
  // Of integers below inputs(), not of so many real numbers.
  bool of_classes() const { return reads_classes(model_->layers().front().kind); }
  Index inputs() const { return model_->layers().front().inputs; }
  Index outputs() const { return model_->layers().back().outputs; }

  // Floating-point operations of T steps, about.
  double operations(Index T) const { return static_cast<double>(T) * operations_; }

  // x (T, B, I), or (T, B) of_classes(), to y (T, B, O), both contiguous; the state goes on.
  template <class X>
  void run(const X* x, Index T, Real* y);

  // (B, H) of each recurrent layer, in order.
  const std::vector<Real>& state(std::size_t layer) const { return states_[layer]; }
  std::size_t states() const { return states_.size(); }
  void set_state(std::size_t layer, const Real* h);
  void reset();
  void reset_sequence(Index b);

 private:
  // A block is cut into so many steps that what passes between two layers has this size, which
  // stays in L2: few where there are many sequences, but no more than repay a call of each layer.
  static constexpr Index kBlockBytes = 1 << 18;
  static constexpr Index kMostSteps = 64;

  using Layer = typename PackedModel<Real>::Layer;

  void look_up(const Layer& layer, const Index* x, Index N, Real* y);
  void run_cell(const Layer& layer, std::vector<Real>& state, const Real* x, Index T, Real* y);
  void run_rows(const Layer& layer, const Real* x, Index N, Real* y);
  void reserve_scratch();
  Plan divide(Forward<Real>& args, const Layer& layer, Index threads);

  std::shared_ptr<const PackedModel<Real>> model_;
  Index batch_;
  Index threads_ = 0;  // that the scratch is for, whatever num_threads() has become meanwhile
  Index steps_ = 0;    // so far
  bool fresh_ = true;  // all states are the zeros before a first step
  std::vector<std::vector<Real>> states_;
  Index block_steps_;             // that run at once
  double operations_ = 0;         // of one step
  std::vector<Real> between_[2];  // outputs of one layer, inputs of the next: (block, B, widest)
  std::vector<Index> cuts_;
  Buffer scratch_;
};

}  // namespace pygru

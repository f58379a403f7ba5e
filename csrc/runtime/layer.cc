// SPDX-License-Identifier: MIT
// The order of sequences by length, one team for each run, and around every kernel of a layer its
// memory: packed weights and scratch from this thread's workspace.
#include "layer.h"

#include <algorithm>
#include <numeric>

#include "isa.h"
#include "plan.h"
#include "teams.h"
#include "thread_count.h"
#include "workspace.h"

namespace pygru {
namespace {

// Sorts sequences by length and counts those alive at each step; divides them among the team.
class Order {
 public:
  Order(Shape s, const Index* length, Index team_size, Buffer& buffer) {
    const Index count = s.B + s.T + team_size + 1;
    auto* memory = static_cast<Index*>(buffer.reserve(count * static_cast<Index>(sizeof(Index))));
    Index* const order = memory;
    Index* const active = memory + s.B;
    Index* const cut = active + s.T;
    if (length) {
      std::iota(order, order + s.B, Index{0});
      std::stable_sort(order, order + s.B, [&](Index a, Index b) { return length[a] > length[b]; });
      Index alive = s.B;
      for (Index t = 0; t < s.T; ++t) {
        while (alive > 0 && length[order[alive - 1]] <= t) --alive;
        active[t] = alive;
      }
      lengths = {length, order, active};
    }
    cut_sequences(kernels(), s, lengths, team_size, cut);
    cuts = cut;
  }

  Lengths lengths;
  const Index* cuts;
};

// What forward and backward share: plan, memory and order for every run, then pack and go.
template <class Real, class Run, class Bytes, class Scratch, class Go>
void run_layer(Cell cell, const Index* length, std::vector<Run>& runs, Index most,
               Bytes packed_bytes, Scratch scratch_bytes, Go go) {
  const CellKernels<Real>& kernel = cell_of<Real>(kernels(), cell);
  const Shape shape = runs[0].args.shape;
  if (shape.B == 0) return;  // there may be any number of steps
  const Plan p = plan_layer(kernels(), shape, steps_of(shape, length), kernel.gates, runs.size(),
                            std::min(most, num_threads()));
  std::vector<void*> packed;  // args.packed, to write to
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const int run = static_cast<int>(i);
    auto& args = runs[i].args;
    const Order order(shape, length, p.size, workspace(Purpose::bookkeeping, run));
    args.lengths = order.lengths;
    args.cuts = order.cuts;
    args.split = p.split;
    packed.push_back(workspace(Purpose::packed, run).reserve(packed_bytes(kernel, args)));
    args.packed = packed.back();
    args.scratch = workspace(Purpose::scratch, run).reserve(scratch_bytes(kernel, args, p.size));
  }
  run_teams(p, static_cast<Index>(runs.size()), [&](Index i, Team team) {
    const auto run = static_cast<std::size_t>(i);
    go(kernel, packed[run], runs[run], team);
  });
}

// Whether `steps` times `rows` that meet weights of so many bytes are too few to pack these for.
// Three always are; otherwise the limit grows with the root of the bytes, up to 44 with 6 MB and 88
// with 25 (measured: csrc/README.md). Rows count by threes, as they meet unpacked weights.
bool few(Index steps, Index rows, Index bytes) {
  const Index counted = rows == 1 ? 1 : (rows + 2) / 3 * 3;
  const double met = static_cast<double>(steps) * static_cast<double>(counted);
  return met > 0 && (met <= 3 || met * met <= std::min(static_cast<double>(bytes), 25e6) / 3200);
}

// The bytes of weights that count for few(): fewer where rows of memory are short, which are slow
// to read, or so long that the sums of several do not stay in cache.
template <class Real>
Index bytes_that_count(Index inputs, Index outputs) {
  const Index rows = std::min(inputs, 4 * outputs), columns = std::min(outputs, 64 * inputs);
  return rows * columns * static_cast<Index>(sizeof(Real));
}

// A few steps of a few sequences of one direction, from the weights as they are; false if it is
// more.
template <class Real>
bool run_few_steps(Cell cell, const Index* length, std::vector<ForwardRun<Real>>& runs,
                   Index most) {
  Forward<Real>& args = runs[0].args;
  const Weights<Real>& weights = runs[0].weights;
  const CellKernels<Real>& kernel = cell_of<Real>(kernels(), cell);
  const auto [T, B, I, H] = args.shape;
  const bool as_they_lie = weights.W.row_stride == 1 && weights.U.row_stride == 1;
  if (length || runs.size() > 1 || !as_they_lie) return false;
  if (!few(T, B, kernel.gates * bytes_that_count<Real>(I + H, H))) return false;
  const Plan plan =
      plan_layer(kernels(), args.shape, steps_of(args.shape, nullptr), kernel.gates, 1, most);
  args.scratch = workspace(Purpose::scratch).reserve(kernel.few_steps_scratch_bytes(args));
  run_one_team(plan, [&](Team team) { kernel.few_steps(args, weights, team); });
  return true;
}

}  // namespace

template <class Real>
void run_forward(Cell cell, const Index* length, std::vector<ForwardRun<Real>>& runs, Index most) {
  if (run_few_steps(cell, length, runs, std::min(most, num_threads()))) return;
  run_layer<Real>(
      cell, length, runs, most,
      [](const auto& kernel, const auto& args) { return kernel.packed_forward_bytes(args.shape); },
      [](const auto& kernel, const auto& args, Index size) {
        return kernel.forward_scratch_bytes(args, size);
      },
      [](const auto& kernel, void* packed, const auto& run, Team team) {
        kernel.pack_forward(packed, run.args.shape, run.weights, team);
        team.sync();
        kernel.forward(run.args, team);
      });
}

template <class Real>
void run_backward(Cell cell, const Index* length, std::vector<BackwardRun<Real>>& runs,
                  Index most) {
  run_layer<Real>(
      cell, length, runs, most,
      [](const auto& kernel, const auto& args) {
        return kernel.packed_backward_bytes(args.shape, static_cast<bool>(args.dx));
      },
      [](const auto& kernel, const auto& args, Index size) {
        return kernel.backward_scratch_bytes(args, size);
      },
      [](const auto& kernel, void* packed, const auto& run, Team team) {
        kernel.pack_backward(packed, run.args.shape, run.weights, static_cast<bool>(run.args.dx),
                             team);
        team.sync();
        kernel.backward(run.args, team);
      });
}

template <class Real>
void run_linear(Linear<Real> args, Matrix<const Real> W, const Real* b) {
  const LinearKernels<Real>& kernel = kernels_of<Real>(kernels()).linear;
  Plan plan = plan_linear(args.N, args.K, args.M);
  if (W.row_stride == 1 && few(1, args.N, bytes_that_count<Real>(args.K, args.M))) {
    plan.size = std::clamp<Index>(args.M / kernels().lanes_f32, 1, plan.size);
    return run_one_team(plan, [&](Team team) { kernel.few_rows(args, W, b, team); });
  }
  void* packed = workspace(Purpose::packed).reserve(kernel.packed_bytes(args.K, args.M));
  args.packed = packed;
  run_one_team(plan, [&](Team team) {
    kernel.pack(packed, args.K, args.M, W, b, team);
    team.sync();
    kernel.forward(args, team);
  });
}

template <class Real>
void run_linear_backward(LinearBackward<Real> args) {
  const LinearKernels<Real>& kernel = kernels_of<Real>(kernels()).linear;
  args.scratch = workspace(Purpose::scratch).reserve(kernel.backward_scratch_bytes(args));
  run_one_team(plan_linear(args.N, args.K, args.M, 2),
               [&](Team team) { kernel.backward(args, team); });
}

#define PYGRU_INSTANTIATE(Real)                                                           \
  template void run_forward(Cell, const Index*, std::vector<ForwardRun<Real>>&, Index);   \
  template void run_backward(Cell, const Index*, std::vector<BackwardRun<Real>>&, Index); \
  template void run_linear(Linear<Real>, Matrix<const Real>, const Real*);                \
  template void run_linear_backward(LinearBackward<Real>);
PYGRU_INSTANTIATE(float)
PYGRU_INSTANTIATE(double)
#undef PYGRU_INSTANTIATE

}  // namespace pygru

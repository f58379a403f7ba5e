// SPDX-License-Identifier: MIT
// Calls the runtime from several threads at once, for ThreadSanitizer to watch, and holds every
// result against that of one thread, bit for bit; and looks at what no result shows: how even the
// parts of a team are, when calls run alone, and where threads may run. There is no Python, whose
// lock would put calls in an order, and no fork(), after which ThreadSanitizer gives up when a
// thread starts. Built where CMake is given PYGRU_THREAD_STRESS.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "../csrc/runtime/account.h"
#include "../csrc/runtime/isa.h"
#include "../csrc/runtime/layer.h"
#include "../csrc/runtime/plan.h"
#include "../csrc/runtime/stream.h"
#include "../csrc/runtime/thread_count.h"
#include "../csrc/runtime/thread_pool.h"
#include "../csrc/runtime/waiting.h"

namespace pygru {

// In place of isa.cc: one instruction set, the one that the compiler takes by default.
extern const KernelTable table_stress;
const KernelTable& kernels() {
  return table_stress;
}

namespace {

using Floats = std::vector<float>;

std::atomic<bool> failed = false;

void expect(bool right, const char* what) {
  if (!right && !failed.exchange(true)) std::fprintf(stderr, "thread_stress: wrong %s\n", what);
}

std::size_t count(Index n) {
  return static_cast<std::size_t>(n);
}

// Calls work(i) in n threads at once.
void at_once(Index n, const std::function<void(Index)>& work) {
  std::vector<std::jthread> threads;
  for (Index i = 0; i < n; ++i) threads.emplace_back(work, i);
}

// Teams of 1 to 6, whose members pass plain numbers to each other across barriers, and at the end
// to the caller.
void call_teams() {
  for (Index call = 0; call < 200; ++call) {
    const Index wanted = 1 + call * 5 % 6;
    std::vector<Index> said(count(wanted));
    Barrier barrier(wanted);
    run_team(wanted, 1, static_cast<double>(1 + call % 7) * 1e6, [&](Index rank, Index size) {
      const Team team = {rank, size, Barrier::wait_on, &barrier};
      for (Index round = 1; round <= 10; ++round) {
        said[count(rank)] = round;
        // Longer than the others look out for it, so that they sleep within the barrier.
        if (call % 16 == 1 && rank == round % size)
          std::this_thread::sleep_for(std::chrono::microseconds(200));
        team.sync();
        for (Index i = 0; i < size; ++i) expect(said[count(i)] == round, "number after a barrier");
        team.sync();
      }
      for (Index i = rank; i < wanted; i += size) said[count(i)] = -1;
    });
    for (const Index number : said) expect(number == -1, "number after a call");
    // Longer than the pool's threads have patience, so that the next call must wake them.
    if (call % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

#if defined(__linux__)
cpu_set_t allowed() {
  cpu_set_t cpus;
  expect(pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus) == 0, "affinity");
  return cpus;
}

// Who is barred from a CPU while it wakes may run afterwards where it might before, or where
// somebody else has put it meanwhile.
void bar_and_let_back() {
  const cpu_set_t before = allowed();
  if (CPU_COUNT(&before) == 1) return;
  Bar bar, again;
  bar.put_up(pthread_self());
  const cpu_set_t barred = allowed();
  if (CPU_EQUAL(&barred, &before)) return;  // as where CPUs are not virtual
  expect(CPU_COUNT(&barred) == CPU_COUNT(&before) - 1, "affinity of a thread that is woken");
  bar.put_up(pthread_self());  // as by a second change before it is awake
  bar.take_down();
  const cpu_set_t after = allowed();
  expect(CPU_EQUAL(&after, &before), "affinity of a thread that has woken");

  again.put_up(pthread_self());
  const cpu_set_t left = allowed();
  // With two CPUs the other one: nobody could tell being left with one from having chosen it.
  int cpu = 0;
  while (!CPU_ISSET(cpu, &before) || (CPU_COUNT(&before) == 2 && CPU_ISSET(cpu, &left))) ++cpu;
  cpu_set_t chosen;
  CPU_ZERO(&chosen);
  CPU_SET(cpu, &chosen);
  pthread_setaffinity_np(pthread_self(), sizeof chosen, &chosen);
  again.take_down();
  const cpu_set_t kept = allowed();
  expect(CPU_EQUAL(&kept, &chosen), "affinity that somebody has set meanwhile");
  Bar none;
  none.put_up(pthread_self());
  const cpu_set_t only = allowed();
  expect(CPU_EQUAL(&only, &chosen), "affinity of a thread with one CPU");
  none.take_down();
}
#endif

// Cuts of up to 40 sequences, of one length and of many: each as near to its place as half a tile
// allows, or any number of sequences where the team has no tile each.
void cut_all() {
  constexpr Index T = 30;
  const Index tile = kernels().register_rows;
  for (const Index spread : {1, 5, 30})
    for (Index team = 1; team <= 5; ++team)
      for (Index B = 1; B <= 40; ++B) {
        std::vector<Index> length, order(count(B)), cuts(count(team + 1));
        for (Index b = 0; b < B; ++b) length.push_back(T - b * spread / B);  // the longest first
        std::iota(order.begin(), order.end(), Index{0});
        const Shape shape = {T, B, 1, 1};
        cut_sequences(kernels(), shape, {length.data(), order.data()}, team, cuts.data());
        expect(cuts.front() == 0 && cuts.back() == B, "ends of the cuts");
        const Index rows = B >= tile * team ? tile / 2 : 1;
        for (Index member = 1; member < team; ++member) {
          const Index cut = cuts[count(member)];
          const double before = std::accumulate(&length[0], &length[0] + cut, 0.0);
          const double place = steps_of(shape, length.data()) / static_cast<double>(team) *
                               static_cast<double>(member);
          expect(cut % rows == 0, "tile of a cut");
          expect(std::abs(before - place) <= static_cast<double>(rows * T) / 2 || B - cut < rows,
                 "place of a cut");
        }
      }
}

// What calls take, simulated: one thread needs 100 us for a million operations, a team `team` times
// as long, plus `wake` where calls were alone for more than 200 us before, plus `hiccup` in some
// calls: one of `calls_to_hiccup`.
struct Machine {
  double team = 1, wake = 0, hiccup = 0, calls_to_hiccup = 1;
  Account account = {};
  double asleep = 0;  // microseconds since a team's last call
  std::minstd_rand random = {};

  // Makes so many calls of `least` to `most` million operations; returns the time they take, by
  // that of one thread alone.
  double run(int calls, double least = 1, double most = 1) {
    double spent = 0, alone = 0;
    for (int i = 0; i < calls; ++i) {
      const double size = std::uniform_real_distribution(least, most + 1e-9)(random);
      const double noise = std::uniform_real_distribution(0.8, 1.2)(random);
      const double one = 100 * size * noise;
      const Call call = {nullptr, 1, 1e6 * size};
      const bool teams = account.wants_team();
      double took = teams ? team * one + (asleep > 200 ? wake : 0) : one;
      if (teams && std::uniform_real_distribution(0.0, calls_to_hiccup)(random) < 1) took += hiccup;
      const auto time = std::chrono::nanoseconds(static_cast<Index>(1000 * took));
      teams ? account.settle_team(call, time) : account.settle_alone(call, time);
      asleep = teams ? 0 : asleep + one;
      spent += took;
      alone += one;
    }
    return spent / alone;
  }
};

void keep_accounts() {
  constexpr int learns = 1000, many = 20000;
  const auto after_learning = [](Machine machine, double least = 1, double most = 1) {
    machine.run(learns, least, most);
    return machine.run(many, least, most);
  };
  expect(Machine{.team = 0.5}.run(learns) < 0.55, "use of a good team, at first");
  expect(Machine{.team = 0.5}.run(16, 1000, 1000) < 0.51,
         "use of a good team for a few large calls");
  expect(Machine{.team = 1.15}.run(learns, 1000, 1000) < 1.05,
         "cost of a bad team for large calls");
  expect(after_learning({.team = 0.5}) < 0.52, "use of a good team");
  expect(after_learning({.team = 0.9}) < 0.93, "use of a small gain");
  expect(after_learning({.team = 0.6}, 0.5, 1.0) < 0.63, "use of a team where calls differ");
  for (const double slower : {1.05, 1.15, 1.3, 2.0, 50.0})
    expect(after_learning({.team = slower}) < 1.05, "cost of a team that is slower");
  const Machine shaky = {.team = 0.5, .hiccup = 6000, .calls_to_hiccup = 300};  // 0.7 always
  expect(after_learning(shaky) < 0.73, "use of a good team on a machine with hiccups");
  const Machine host = {.team = 0.54, .hiccup = 8000, .calls_to_hiccup = 25};  // 0.74 always
  expect(after_learning(host, 16, 16) < 0.8, "use of a good team that the host stops now and then");
  for (const double no_use : {0.65, 0.95, 1.02, 1.1}) {  // with what it waits for, 1.25 and more
    const Machine busy = {.team = no_use, .hiccup = 6000, .calls_to_hiccup = 100};
    expect(after_learning(busy) < 1.045, "cost of a team that waits now and then");
  }

  Machine changing = {.team = 0.6, .wake = 300};
  for (int times = 0; times < 3; ++times) {
    changing.team = 1.5;
    expect(changing.run(4 * many) < 1.05, "cost where cores become one");
    changing.team = 0.6;
    expect(changing.run(many) < 0.68, "use where cores become two again");
  }
  changing.account.settle_team({nullptr, 1, 1e6}, std::chrono::hours(1));
  expect(changing.run(2 * many) < 0.8, "use after the machine slept");
}

// What all threads read, as x, W, U, b_x and b_h, which may overlap.
const Floats drawn = [] {
  std::minstd_rand random;
  Floats values(1 << 18);
  for (float& value : values) value = std::uniform_real_distribution<float>(-0.2f, 0.2f)(random);
  return values;
}();

Weights<float> weights(Index H) {
  return {{&drawn[1], 1, 3 * H}, {&drawn[2], 1, 3 * H}, &drawn[3], &drawn[4]};
}

// Forward and backward of a GRU, with y as dy: all that comes out, in one array.
Floats layer(Cell cell, Shape shape, Index directions, bool of_lengths = true) {
  const auto [T, B, I, H] = shape;
  const Index S = kernels().f32.cell[static_cast<int>(cell)].slots;
  const Index each = T * B * (H + I) + B * H + 3 * H * (I + H + 2);
  Floats all(count(directions * each)), tape(count(directions * T * B * S * H));
  std::vector<ForwardRun<float>> forward(count(directions), {weights(H), {}});
  std::vector<BackwardRun<float>> backward(count(directions), {weights(H), {}});
  for (Index d = 0; d < directions; ++d) {
    float *y = all.data() + d * each, *h_n = y + T * B * H, *dx = h_n + B * H;
    float *dW = dx + T * B * I, *dU = dW + 3 * H * I, *db = dU + 3 * H * H;
    Forward<float>& f = forward[count(d)].args;
    Backward<float>& g = backward[count(d)].args;
    f.shape = g.shape = shape;
    f.reverse = g.reverse = d == 1;
    f.x = g.x = {drawn.data(), B * I, I};
    f.tape = g.tape = {tape.data() + d * T * B * S * H, B * S * H, S * H};
    f.y = {y, B * H, H};
    f.h_n = {h_n, H};
    g.y = g.dy = {y, B * H, H};
    g.dx = {dx, B * I, I};
    g.dW = {dW, 1, 3 * H};
    g.dU = {dU, 1, 3 * H};
    g.db_x = db, g.db_h = db + 3 * H;
  }
  std::vector<Index> length;  // (B,)  from 1 to T
  for (Index b = 0; b < B; ++b) length.push_back(T - b % T);
  const Index* const lengths = of_lengths ? length.data() : nullptr;
  run_forward(cell, lengths, forward, kMostThreads);
  run_backward(cell, lengths, backward, kMostThreads);
  return all;
}

// The same of y = x W^T + b, on N rows.
Floats linear(Index N, Index K, Index M) {
  Floats all(count(N * (M + K) + M * (K + 1)));
  float *y = all.data(), *dx = y + N * M, *dW = dx + N * K, *db = dW + M * K;
  const Matrix<const float> x = {drawn.data(), K, 1}, W = {&drawn[1], 1, M}, dy = {y, M, 1};
  run_linear<float>({N, K, M, x, nullptr, {y, M, 1}}, W, &drawn[2]);
  run_linear_backward<float>({N, K, M, x, W, dy, {dx, K, 1}, {dW, 1, M}, db});
  return all;
}

// A stream's y (T, B, O): one step, then blocks of up to 8.
Floats stream(const std::shared_ptr<const PackedModel<float>>& model, Index T, Index B) {
  Stream<float> steps(model, B);
  Floats y(count(T * B * steps.outputs()));
  for (Index t = 0, block = 1; t < T; t += block, block = std::min<Index>(8, T - t))
    steps.run(&drawn[count(t * B * steps.inputs())], block, &y[count(t * B * steps.outputs())]);
  return y;
}

}  // namespace
}  // namespace pygru

int main() {
  using namespace pygru;
  cut_all();
  keep_accounts();
#if defined(__linux__)
  at_once(1, [](Index) { bar_and_let_back(); });  // not main(), which all others are like
#endif
  at_once(4, [](Index) { call_teams(); });  // the first calls of all

  constexpr Shape many = {12, 48, 8, 48}, few = {40, 7, 16, 96}, one = {12, 1, 40, 256};
  constexpr Index wide = 1001;  // outputs of a stream's Linear: it has a team in blocks
  constexpr Shape short_one = {8, 1, 256, 256}, short_few = {2, 3, 256, 256};
  const auto model = std::make_shared<const PackedModel<float>>(std::vector<LayerWeights<float>>{
      {{.kind = LayerKind::cell, .cell = Cell::gru_after, .inputs = one.I, .outputs = one.H},
       weights(one.H)},
      {{.kind = LayerKind::linear, .inputs = one.H, .outputs = wide}, {{&drawn[5], 1, wide}, {}}}});
  const std::function<Floats()> jobs[] = {
      [&] { return layer(Cell::gru_after, many, 1); },              // sequences divided
      [&] { return layer(Cell::gru_after, many, 2); },              // and two teams at once
      [&] { return layer(Cell::gru_after, one, 1); },               // units divided
      [&] { return layer(Cell::gru_before, few, 1); },              // with two phases a step
      [&] { return layer(Cell::gru_after, short_one, 1, false); },  // from unpacked weights
      [&] { return layer(Cell::gru_before, short_few, 1, false); },
      [&] { return linear(600, 32, 64); },
      [&] { return linear(9, 256, 1003); },   // from unpacked weights
      [&] { return linear(19, 256, 1003); },  // outputs divided, by five threads
      [&] { return stream(model, one.T, one.B); },
  };
  constexpr std::size_t n = std::size(jobs);
  Floats right[n];
  set_num_threads(1);
  for (std::size_t i = 0; i < n; ++i) right[i] = jobs[i]();
  const auto work = [&](Index worker) {
    for (Index call = 0; call < 24; ++call) {
      const std::size_t i = count(worker + call) % n;
      set_num_threads(1 + (worker + 2 * call) % 5);
      const Floats result = jobs[i]();
      expect(!std::memcmp(result.data(), right[i].data(), sizeof(float) * result.size()), "result");
    }
  };
  work(0);  // with the pool for itself
  at_once(4, work);
  return failed;
}

// SPDX-License-Identifier: MIT
// The pool: how its threads are called, and started when a larger team is wanted; and what becomes
// of it in a forked child.
#include "thread_pool.h"

#include <pthread.h>
#include <signal.h>

#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "account.h"
#include "thread_count.h"
#include "waiting.h"

namespace pygru {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;

// How long an idle thread looks out for the next call before it sleeps: longer than the Python
// between two calls of a training loop, far less than anybody would notice.
constexpr microseconds kPatience(200);

// Signals are for the threads of the program, which may wait for one that it blocks. (The four that
// a thread raises itself stay with it.)
void leave_signals_to_others() {
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, own);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

class ThreadPool {
 public:
  void run(Index wanted, const Call& call, const TeamWork& work) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return work(0, 1);
    const Index size = grow(wanted);
    if (size == 1) return work(0, 1);
    Account& account = account_of(call);
    const auto start = Clock::now();
    if (!account.wants_team()) {
      work(0, 1);
      return account.settle_alone(call, Clock::now() - start);
    }
    const unsigned before = finished_.now();
    work_ = &work;
    size_ = size;
    unfinished_.store(size - 1, std::memory_order_relaxed);
    for (Index rank = 1; rank < size; ++rank) calls_[at(rank - 1)]->change();
    work(0, size);
    finished_.wait(before);
    account.settle_team(call, Clock::now() - start);
  }

  void forget_calls() {
    const std::lock_guard<std::mutex> lock(mutex_);
    accounts_.fill(Account());
  }

 private:
  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  // Calls of a kind share an account with those of up to twice the operations, because large ones
  // gain where small ones lose; others share it by chance. (Functions are 16 bytes apart.)
  Account& account_of(const Call& call) {
    const std::size_t kind = std::hash<const void*>()(call.kind);
    const std::size_t step = std::hash<double>()(call.per_step);
    const auto size = at(std::ilogb(call.operations));
    return accounts_[(kind / 16 + step + size) % accounts_.size()];
  }

  // Starts threads until there are wanted - 1 of them; returns how large a team can be. Where one
  // cannot be started, calls use from now on those that there are.
  Index grow(Index wanted) {
    for (Index size = static_cast<Index>(calls_.size()) + 1; size < wanted; ++size) {
      if (start(size)) continue;
      set_num_threads(size);
      failed_with.store(size, std::memory_order_relaxed);
      return size;
    }
    return wanted;
  }

  bool start(Index rank) {
    const std::size_t before = calls_.size();
    try {  // the system may have no more threads, or no memory for what belongs to one
      Signal& calls = *calls_.emplace_back(std::make_unique<Signal>());
      std::thread([this, rank, &calls] { serve(rank, calls); }).detach();
      return true;
    } catch (const std::exception&) {
      if (calls_.size() > before) calls_.pop_back();
      return false;
    }
  }

  [[noreturn]] void serve(Index rank, Signal& calls) {
    leave_signals_to_others();
    for (unsigned seen = 0;; ++seen) {
      calls.wait(seen, kPatience);
      (*work_)(rank, size_);
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) finished_.change();
    }
  }

  std::mutex mutex_;  // held during a call
  // One for each thread, so that a call wakes its members and nobody else. Each stays in its place.
  std::vector<std::unique_ptr<Signal>> calls_;
  // Written before the members are called and read by them alone, until all have finished.
  const TeamWork* work_ = nullptr;
  Index size_ = 1;
  alignas(64) std::atomic<Index> unfinished_ = 0;
  Signal finished_;
  std::array<Account, 256> accounts_;

 public:
  std::atomic<Index> failed_with = 0;
};

std::atomic<unsigned> generation = 1;

// Never destroyed: its threads sleep until the process ends. A forked child has none of the
// parent's threads, and perhaps a locked mutex: it gets a new pool in the old one's place. (That
// takes no memory, so that it cannot fail where nobody could be told.)
ThreadPool* pool_of_process() {
  static_assert(std::is_nothrow_default_constructible_v<ThreadPool>);
  static ThreadPool* const pool = new ThreadPool;
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, [] {
    new (pool) ThreadPool;
    generation.fetch_add(1, std::memory_order_relaxed);
  });
  return pool;
}

}  // namespace

unsigned process_generation() {
  return generation.load(std::memory_order_relaxed);
}

void prepare_for_forks() {
  pool_of_process();
}

void run_team(Index wanted, double per_step, double operations, const TeamWork& work) {
  if (wanted <= 1) return work(0, 1);
  pool_of_process()->run(wanted, {work.kind(), per_step, operations}, work);
}

void forget_calls() {
  pool_of_process()->forget_calls();
}

Index take_thread_failure() {
  std::atomic<Index>& failed_with = pool_of_process()->failed_with;
  return failed_with.load(std::memory_order_relaxed) ? failed_with.exchange(0) : 0;
}

}  // namespace pygru

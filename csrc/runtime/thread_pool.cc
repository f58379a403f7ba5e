// SPDX-License-Identifier: MIT
// The pool: how its threads wait (spinning, then asleep), are called, and are started when a larger
// team is wanted; and what becomes of it in a forked child.
#include "thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <type_traits>
#include <vector>

#include "thread_count.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pygru {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds, std::chrono::nanoseconds;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long an idle thread looks out for the next call before it sleeps: longer than the Python
// between two calls of a training loop, far less than anybody would notice.
constexpr nanoseconds kPatience = microseconds(200);

// How long a member looks out for the others before it sleeps. They are microseconds off where each
// has a CPU. Where somebody else works on one of them, whoever looks, or gives its CPU away for
// others to use, has had its turn when the others come; whoever sleeps comes at once.
constexpr nanoseconds kLook = microseconds(50);

// How long this thread has looked out for others, in this call, beyond the first moment.
thread_local nanoseconds looked{};

// How long this thread has had a CPU.
nanoseconds cpu_time() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

// Signals are for the threads of the program, which may wait for one that it blocks. (The four that
// a thread raises itself stay with it.)
void leave_signals_to_others() {
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigdelset(&all, own);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

// What teams may lose. A team waits for a member that must be woken, or whose CPU another process
// is using, perhaps many times as long as its call takes, and again at the next call. So lost time
// is charged many times over, and while the account is overdrawn calls run alone and pay it back:
// threads that are no use cost a thirtieth. A team that nobody disturbs earns what absorbs a
// disturbance now and then.
class Account {
 public:
  bool overdrawn() const { return credit_ < nanoseconds(0); }
  void earn(nanoseconds time) { credit_ = std::min(credit_ + time, kMost); }
  // After a call that took a team `total`, and would have taken one thread `alone`. A single call
  // is charged for ten of its kind at most, whatever held it up.
  void settle(nanoseconds total, nanoseconds alone) {
    if (total <= alone) return earn(total);
    credit_ = std::max(credit_ - kCharge * std::min(total - alone, 10 * alone), -kMost);
  }

 private:
  static constexpr int kCharge = 30;
  static constexpr nanoseconds kMost = std::chrono::seconds(1);
  static constexpr nanoseconds kAtFirst = kMost / 10;  // nobody knows yet what a team is worth
  nanoseconds credit_ = kAtFirst;
};

class ThreadPool {
 public:
  void run(Index wanted, double operations, const TeamWork& work) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return work(0, 1);
    const Index size = grow(wanted);
    if (size == 1) return work(0, 1);
    // Large calls gain where small ones lose, so there is an account for every four times as many.
    Account& account = accounts_[at(std::ilogb(std::max(1.0, operations)) / 2) % accounts_.size()];
    const auto start = Clock::now();
    if (account.overdrawn()) {
      work(0, 1);
      return account.earn(Clock::now() - start);
    }
    const unsigned before = finished_.now();
    work_ = &work;
    size_ = size;
    unfinished_.store(size - 1, std::memory_order_relaxed);
    for (Index rank = 1; rank < size; ++rank) threads_[at(rank - 1)]->calls.change();
    const nanoseconds worked = take_part(0);
    finished_.wait(before, kLook);
    settle(account, Clock::now() - start, worked);
  }

 private:
  struct alignas(64) Thread {
    Signal calls;          // its own, so that a call wakes its members and nobody else
    nanoseconds worked{};  // in the last call
  };

  static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  // Settles the account after a call of a team that took `total`, of which the caller worked so
  // long. One thread would have worked as long as all members together.
  void settle(Account& account, nanoseconds total, nanoseconds alone) {
    for (Index rank = 1; rank < size_; ++rank) alone += threads_[at(rank - 1)]->worked;
    account.settle(total, alone);
  }

  // Does a member's share; returns how long it worked: the time of a CPU, without the waiting.
  nanoseconds take_part(Index rank) {
    const nanoseconds start = cpu_time();
    looked = nanoseconds(0);
    (*work_)(rank, size_);
    return cpu_time() - start - looked;
  }

  // Starts threads until there are wanted - 1 of them; returns how large a team can be. Where one
  // cannot be started, calls use from now on those that there are.
  Index grow(Index wanted) {
    for (Index size = static_cast<Index>(threads_.size()) + 1; size < wanted; ++size) {
      if (start(size)) continue;
      set_num_threads(size);
      failed_with.store(size, std::memory_order_relaxed);
      return size;
    }
    return wanted;
  }

  bool start(Index rank) {
    const std::size_t before = threads_.size();
    try {  // the system may have no more threads, or no memory for what belongs to one
      Thread& thread = *threads_.emplace_back(std::make_unique<Thread>());
      std::thread([this, rank, &thread] { serve(rank, thread); }).detach();
      return true;
    } catch (const std::exception&) {
      if (threads_.size() > before) threads_.pop_back();
      return false;
    }
  }

  [[noreturn]] void serve(Index rank, Thread& thread) {
    leave_signals_to_others();
    for (unsigned seen = 0;; ++seen) {
      thread.calls.wait(seen, kPatience);
      thread.worked = take_part(rank);
      if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) finished_.change();
    }
  }

  std::mutex mutex_;                              // held during a call
  std::vector<std::unique_ptr<Thread>> threads_;  // each stays in its place
  // Written before the members are called and read by them alone, until all have finished.
  const TeamWork* work_ = nullptr;
  Index size_ = 1;
  alignas(64) std::atomic<Index> unfinished_ = 0;
  Signal finished_;
  std::array<Account, 32> accounts_;

 public:
  std::atomic<Index> failed_with = 0;
};

// Never destroyed: its threads sleep until the process ends. A forked child has none of the
// parent's threads, and perhaps a locked mutex: it gets a new pool in the old one's place. (That
// takes no memory, so that it cannot fail where nobody could be told.)
ThreadPool* pool_of_process() {
  static_assert(std::is_nothrow_default_constructible_v<ThreadPool>);
  static ThreadPool* const pool = new ThreadPool;
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { new (pool) ThreadPool; });
  return pool;
}

std::atomic<unsigned> generation = 1;

}  // namespace

unsigned process_generation() {
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  return generation.load(std::memory_order_relaxed);
}

void Signal::change() {
  number_.fetch_add(1);
  // Who falls asleep now sees the new number, or is seen here: both are in one order with this.
  if (asleep_.load() == 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
  }
  changed_.notify_all();
}

void Signal::wait(unsigned seen, nanoseconds patience) {
  constexpr int at_once = 64;  // looks before the time counts
  for (int looks = 0; looks < at_once; ++looks) {
    if (now() != seen) return;
    pause();
  }
  const auto start = Clock::now();
  for (int looks = 1; now() == seen; ++looks) {
    pause();
    if (looks % at_once != 0 || Clock::now() - start < patience) continue;
    looked += Clock::now() - start;
    asleep_.fetch_add(1);
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return number_.load() != seen; });
    asleep_.fetch_sub(1);
    return;
  }
  looked += Clock::now() - start;
}

void Barrier::wait() {
  const unsigned round = all_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    all_.change();
  } else {
    all_.wait(round, kLook);
  }
}

void prepare_for_forks() {
  pool_of_process();
  process_generation();
}

void run_team(Index wanted, double operations, const TeamWork& work) {
  if (wanted <= 1) return work(0, 1);
  pool_of_process()->run(wanted, operations, work);
}

Index take_thread_failure() {
  std::atomic<Index>& failed_with = pool_of_process()->failed_with;
  return failed_with.load(std::memory_order_relaxed) ? failed_with.exchange(0) : 0;
}

}  // namespace pygru

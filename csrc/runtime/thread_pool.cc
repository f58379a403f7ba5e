// SPDX-License-Identifier: MIT
// The pool: how its threads wait (spinning, then asleep), are called, and are started when a larger
// team is wanted; and what becomes of it in a forked child.
#include "thread_pool.h"

#include <pthread.h>

#include <chrono>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "thread_count.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pygru {
namespace {

using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// How long an idle thread looks out for the next call before it sleeps: longer than the Python
// between two calls of a training loop, far less than anybody would notice.
constexpr auto kPatience = std::chrono::microseconds(200);

// How often a member looks out for the others before it gives its CPU away. They are microseconds
// off where each has a CPU; where two share one, the one that looks keeps the other from coming;
// and a process beside it takes what it is given for a millisecond. At (T, B, I, H) = (100, 1, 64,
// 256), units divided between two threads, a call takes, in ms (mean; one thread: 1.7 in every
// case):
//   looks                         100   300   500  1000  4096
//   a CPU for each                1.2   1.3   1.3   1.2   1.2
//   both on one CPU               2.7   3.2   3.8   5.3  14.4
//   a process beside one of them   28   3.3   2.4   2.2   1.8
constexpr int kLooks = 500;

template <class Done>
void spin_until(Done done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < kLooks)
      pause();
    else
      std::this_thread::yield();
  }
}

class ThreadPool {
 public:
  void run(Index wanted, const TeamWork& work) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return work(0, 1);
    const Index size = grow(wanted);
    if (size == 1) return work(0, 1);
    work_ = &work;
    size_ = size;
    unfinished_.store(size - 1, std::memory_order_relaxed);
    for (Index rank = 1; rank < size; ++rank) {
      std::atomic<unsigned>& calls = threads_[static_cast<std::size_t>(rank - 1)].calls;
      calls.fetch_add(1, std::memory_order_release);
      calls.notify_one();
    }
    work(0, size);
    spin_until([&] { return unfinished_.load(std::memory_order_acquire) == 0; });
  }

 private:
  // What a thread waits on: a word of its own, so that a call wakes its members and nobody else.
  struct alignas(64) Thread {
    std::atomic<unsigned> calls = 0;
  };

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
      Thread& thread = threads_.emplace_back();
      std::thread([this, rank, &thread] { serve(rank, thread.calls); }).detach();
      return true;
    } catch (const std::exception&) {
      if (threads_.size() > before) threads_.pop_back();
      return false;
    }
  }

  [[noreturn]] void serve(Index rank, const std::atomic<unsigned>& calls) {
    for (unsigned seen = 0;; ++seen) {
      const auto deadline = Clock::now() + kPatience;
      for (int spins = 0; calls.load(std::memory_order_acquire) == seen; ++spins) {
        pause();
        if (spins % 64 == 63 && Clock::now() > deadline)
          calls.wait(seen, std::memory_order_acquire);
      }
      (*work_)(rank, size_);
      unfinished_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex mutex_;            // held during a call
  std::deque<Thread> threads_;  // where each stays in its place
  // Written before the members are called and read by them alone, until all have finished.
  const TeamWork* work_ = nullptr;
  Index size_ = 1;
  alignas(64) std::atomic<Index> unfinished_ = 0;

 public:
  std::atomic<Index> failed_with = 0;
};

// Never destroyed: its threads sleep until the process ends. A forked child has none of the
// parent's threads, and perhaps a locked mutex: it gets a new pool and leaves the old one alone.
ThreadPool* pool_of_process() {
  static ThreadPool* pool = [] {
    pthread_atfork(nullptr, nullptr, [] { pool = new ThreadPool; });
    return new ThreadPool;
  }();
  return pool;
}

std::atomic<unsigned> generation = 1;

}  // namespace

unsigned process_generation() {
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1, std::memory_order_relaxed); });
  return generation.load(std::memory_order_relaxed);
}

void Barrier::wait() {
  const unsigned round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
  } else {
    spin_until([&] { return round_.load(std::memory_order_acquire) != round; });
  }
}

void prepare_for_forks() {
  pool_of_process();
  process_generation();
}

void run_team(Index wanted, const TeamWork& work) {
  if (wanted <= 1) return work(0, 1);
  pool_of_process()->run(wanted, work);
}

Index take_thread_failure() {
  std::atomic<Index>& failed_with = pool_of_process()->failed_with;
  return failed_with.load(std::memory_order_relaxed) ? failed_with.exchange(0) : 0;
}

}  // namespace pygru

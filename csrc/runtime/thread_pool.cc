// SPDX-License-Identifier: MIT
#include "thread_pool.h"

#include <pthread.h>

#include <chrono>
#include <mutex>
#include <system_error>
#include <thread>

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

// Spins until done() holds, giving the CPU away now and then: there may be fewer CPUs than threads.
template <class Done>
void spin_until(Done done) {
  for (int spins = 0; !done(); ++spins) {
    if (spins < 4096)
      pause();
    else
      std::this_thread::yield();
  }
}

class ThreadPool {
  static constexpr unsigned kSizes = 2048;  // more than the largest team

 public:
  void run(Index wanted, const TeamWork& work) {
    std::unique_lock<std::mutex> lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return work(0, 1);
    const Index size = grow(wanted);
    if (size == 1) return work(0, 1);
    work_.store(&work, std::memory_order_relaxed);
    unfinished_.store(size - 1, std::memory_order_relaxed);
    const unsigned number = call_.load(std::memory_order_relaxed) / kSizes + 1;
    call_.store(number * kSizes + static_cast<unsigned>(size), std::memory_order_release);
    call_.notify_all();
    work(0, size);
    spin_until([&] { return unfinished_.load(std::memory_order_acquire) == 0; });
  }

 private:
  // Starts threads until there are wanted - 1 of them; returns how large a team can be.
  Index grow(Index wanted) {
    while (threads_ + 1 < wanted) {
      try {
        const Index rank = threads_ + 1;
        const unsigned seen = call_.load(std::memory_order_relaxed);
        std::thread([this, rank, seen] { serve(rank, seen); }).detach();
        ++threads_;
      } catch (const std::system_error&) {
        failed_with.store(threads_ + 1, std::memory_order_relaxed);
        return threads_ + 1;
      }
    }
    return wanted;
  }

  [[noreturn]] void serve(Index rank, unsigned seen) {
    for (;;) {
      const auto deadline = Clock::now() + kPatience;
      unsigned now;
      for (int spins = 0; (now = call_.load(std::memory_order_acquire)) == seen; ++spins) {
        pause();
        if (spins % 64 == 63 && Clock::now() > deadline)
          call_.wait(seen, std::memory_order_acquire);
      }
      seen = now;
      // A thread outside of the team may come here late, when the call is over or the next has
      // begun, so whether it is a member is in the number itself. Members are waited for.
      const Index size = seen % kSizes;
      if (rank >= size) continue;
      (*work_.load(std::memory_order_relaxed))(rank, size);
      unfinished_.fetch_sub(1, std::memory_order_release);
    }
  }

  std::mutex mutex_;  // held during a call
  Index threads_ = 0;
  std::atomic<const TeamWork*> work_ = nullptr;
  alignas(64) std::atomic<unsigned> call_ = 0;  // kSizes * number of the call + size of its team
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

}  // namespace

void Barrier::wait() {
  const unsigned round = round_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.store(round + 1, std::memory_order_release);
  } else {
    spin_until([&] { return round_.load(std::memory_order_acquire) != round; });
  }
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

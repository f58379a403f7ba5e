// SPDX-License-Identifier: MIT
// How threads wait for each other: they look for a while, then sleep, and wake on a CPU of their
// own.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>

#if defined(__linux__) && defined(__x86_64__)
#include <sched.h>
#endif

#include "../kernels/args.h"

namespace pygru {

// How long a member of a team looks out for the others before it sleeps. They are microseconds off
// where each has a CPU. Where somebody else works on one of them, whoever looks, or gives its CPU
// away for others to use, has had its turn when the others come; whoever sleeps comes at once.
constexpr std::chrono::microseconds kLook{50};

// A thread that is barred from one CPU, that of whoever wakes it, for as long as it takes to wake.
// Only Linux on virtual CPUs needs it.
class Bar {
 public:
  // By whoever is about to wake `thread`, if that may use other CPUs than this one.
  void put_up(pthread_t thread);
  // By the thread itself. Other CPUs that somebody has given it meanwhile stay its own.
  void take_down() const;

 private:
#if defined(__linux__) && defined(__x86_64__)
  bool up_ = false;
  cpu_set_t before_, barred_;  // where the thread may run
#endif
};

// A number that one thread changes and others wait for.
class Signal {
 public:
  unsigned now() const { return number_.load(std::memory_order_acquire); }
  // Wakes all who wait.
  void change();
  // Returns when the number is no longer `seen`: looks at it for `patience`, then sleeps.
  void wait(unsigned seen, std::chrono::nanoseconds patience = kLook);

 private:
  struct Sleeper {
    pthread_t thread;
    Sleeper* next = nullptr;
    Bar bar = {};
  };

  void sleep(unsigned seen);

  alignas(64) std::atomic<unsigned> number_ = 0;
  std::atomic<unsigned> asleep_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  Sleeper* sleepers_ = nullptr;  // each on its own stack
};

// Lets a team wait for all of its members.
class Barrier {
 public:
  explicit Barrier(Index size) : size_(size) {}
  void wait();
  static void wait_on(void* barrier) { static_cast<Barrier*>(barrier)->wait(); }

 private:
  const Index size_;
  alignas(64) std::atomic<Index> arrived_ = 0;
  Signal all_;
};

}  // namespace pygru

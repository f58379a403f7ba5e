// SPDX-License-Identifier: MIT
// Looking and sleeping; and what keeps the scheduler from putting who wakes behind who woke it.
//
// A virtual CPU that has been idle for a while, 0.1 to 8 ms, counts in Linux as one that its host
// may have given to others (vcpu_is_preempted, on x86). A thread that wakes is not put there, but
// on the CPU of whoever woke it, and the two take turns, each waiting for the other at every
// barrier, until the scheduler balances its load: 3 ms, or the whole call.
#include "waiting.h"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <cpuid.h>
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

#if defined(__linux__) && defined(__x86_64__)
// Whether CPUs are virtual: bit 31 of what every hypervisor reports.
bool in_virtual_machine() {
  static const bool is_set = [] {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 31 == 1;
  }();
  return is_set;
}
#endif

}  // namespace

#if defined(__linux__) && defined(__x86_64__)
void Bar::put_up(pthread_t thread) {
  if (up_ || !in_virtual_machine()) return;
  const int here = sched_getcpu();
  if (here < 0 || here >= CPU_SETSIZE ||
      pthread_getaffinity_np(thread, sizeof before_, &before_) != 0 || !CPU_ISSET(here, &before_) ||
      CPU_COUNT(&before_) == 1)
    return;
  barred_ = before_;
  CPU_CLR(here, &barred_);
  up_ = pthread_setaffinity_np(thread, sizeof barred_, &barred_) == 0;
}

void Bar::take_down() const {
  const auto may_run_on = [](cpu_set_t& set) {
    return pthread_getaffinity_np(pthread_self(), sizeof set, &set) == 0;
  };
  const auto let_run_on = [](const cpu_set_t& set) {
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  };
  cpu_set_t now, all;
  if (!up_ || !may_run_on(now) || !CPU_EQUAL(&now, &barred_)) return;
  std::memset(&all, 0xff, sizeof all);
  let_run_on(all);  // if those are the same that it had, it follows its cpuset, also a changed one
  if (!may_run_on(now) || !CPU_EQUAL(&now, &before_)) let_run_on(before_);
}
#else
void Bar::put_up(pthread_t) {}
void Bar::take_down() const {}
#endif

void Signal::change() {
  number_.fetch_add(1);
  // Who falls asleep now sees the new number, or is seen here: both are in one order with this.
  if (asleep_.load() == 0) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (Sleeper* s = sleepers_; s; s = s->next) s->bar.put_up(s->thread);
  }
  changed_.notify_all();
}

void Signal::wait(unsigned seen, std::chrono::nanoseconds patience) {
  constexpr int at_once = 64;  // looks before the time counts
  for (int looks = 0; looks < at_once; ++looks) {
    if (now() != seen) return;
    pause();
  }
  const auto start = Clock::now();
  for (int looks = 1; now() == seen; ++looks) {
    pause();
    if (looks % at_once != 0 || Clock::now() - start < patience) continue;
    return sleep(seen);
  }
}

void Signal::sleep(unsigned seen) {
  Sleeper self{pthread_self()};
  asleep_.fetch_add(1);
  {
    std::unique_lock<std::mutex> lock(mutex_);
    self.next = sleepers_;
    sleepers_ = &self;
    changed_.wait(lock, [&] { return number_.load() != seen; });
    Sleeper** to_self = &sleepers_;
    while (*to_self != &self) to_self = &(*to_self)->next;
    *to_self = self.next;
  }
  asleep_.fetch_sub(1);
  self.bar.take_down();
}

void Barrier::wait() {
  const unsigned round = all_.now();
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    all_.change();
  } else {
    all_.wait(round);
  }
}

}  // namespace pygru

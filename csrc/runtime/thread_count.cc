// SPDX-License-Identifier: MIT
#include "thread_count.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace pygru {
namespace {

std::atomic<Index> chosen = 0;  // 0: not yet

std::string valid() {
  return "an integer from 1 to " + std::to_string(kMostThreads);
}

// The count in an environment variable; 0 where it is unset or empty.
Index from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  char* end = nullptr;
  const long n = std::strtol(text, &end, 10);
  if (*end != '\0' || n < 1 || n > kMostThreads)
    throw std::invalid_argument(std::string(name) + "=" + text + ": must be " + valid());
  return n;
}

// OMP_NUM_THREADS belongs to OpenMP, which allows "4,2" for nested teams: its first number counts
// here, and what is not a count is left alone.
Index from_openmp() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  if (!text) return 0;
  const long n = std::strtol(text, nullptr, 10);
  return n >= 1 && n <= kMostThreads ? n : 0;
}

Index from_affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<Index>(std::max(1u, std::thread::hardware_concurrency()));
}

// CPUs' worth of time the cgroup grants, rounded up; 0 where there is no limit.
Index from_cgroup() {
  double quota = 0, period = 0;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string first;
  if (v2 >> first >> period) {
    if (first == "max") return 0;
    quota = std::atof(first.c_str());
  } else {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> quota;
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return 0;
  return std::max<Index>(1, static_cast<Index>((quota + period - 1) / period));
}

Index detect() {
  if (const Index n = from_environment("PYGRU_NUM_THREADS")) return n;
  if (const Index n = from_openmp()) return n;
  const Index cpus = from_affinity(), quota = from_cgroup();
  return std::clamp<Index>(quota > 0 ? std::min(cpus, quota) : cpus, 1, kMostThreads);
}

}  // namespace

Index num_threads() {
  if (chosen == 0) chosen = detect();
  return chosen;
}

void set_num_threads(Index n) {
  if (n < 1 || n > kMostThreads)
    throw std::invalid_argument("set_num_threads: n must be " + valid() + ", got " +
                                std::to_string(n));
  chosen = n;
}

}  // namespace pygru

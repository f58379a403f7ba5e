// SPDX-License-Identifier: MIT
// Reads the variables, the affinity and the files of cgroups, once, unless a count is set first.
#include "thread_count.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>

#include "text.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace pygru {
namespace {

std::atomic<Index> chosen = 0;  // 0: not yet

std::string valid() {
  return "an integer from 1 to " + std::to_string(kMostThreads);
}

std::string_view trim(std::string_view text) {
  constexpr const char* blanks = " \t\n";
  const std::size_t first = text.find_first_not_of(blanks);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

// The number that the whole text is, blanks around it aside; 0 where it is none or too large.
Index count_of(std::string_view text) {
  text = trim(text);
  Index n = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, n);
  return error == std::errc() && rest == end && n >= 1 ? n : 0;
}

// The count in an environment variable; 0 where it is unset or empty.
Index from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return 0;
  const Index n = count_of(text);
  if (n < 1 || n > kMostThreads)
    throw std::invalid_argument(std::string(name) + "=" + printable(text) + ": must be " + valid());
  return n;
}

// OMP_NUM_THREADS belongs to OpenMP, which allows "4,2" for nested teams: the first number of a
// list of positive integers counts here. Anything else is for OpenMP to complain about.
Index from_openmp() {
  const char* given = std::getenv("OMP_NUM_THREADS");
  if (!given) return 0;
  Index first = 0;
  for (std::string_view text = given;;) {
    const std::size_t comma = text.find(',');
    const Index n = count_of(text.substr(0, comma));
    if (n == 0) return 0;
    if (first == 0) first = n;
    if (comma == text.npos) return first <= kMostThreads ? first : 0;
    text.remove_prefix(comma + 1);
  }
}

Index from_affinity() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
  return static_cast<Index>(std::max(1u, std::thread::hardware_concurrency()));
}

// CPUs' worth of time that one group grants: quota and period in one file or two. Infinite without
// a limit.
double quota_in(const std::string& folder) {
  std::string quota;
  double period = 0;
  if (!(std::ifstream(folder + "/cpu.max") >> quota >> period)) {
    std::ifstream(folder + "/cpu.cfs_quota_us") >> quota;
    std::ifstream(folder + "/cpu.cfs_period_us") >> period;
  }
  const double granted = std::atof(quota.c_str());  // "max" and -1 are none
  return granted > 0 && period > 0 ? granted / period : std::numeric_limits<double>::infinity();
}

// The least of a group and all those above it, each of which limits it.
double quota_along(const std::string& mount, std::string path) {
  double least = quota_in(mount);
  while (path.size() > 1) {
    least = std::min(least, quota_in(mount + path));
    const auto slash = path.rfind('/');
    path.resize(slash == path.npos ? 0 : slash);
  }
  return least;
}

Index detect() {
  if (const Index n = from_environment("PYGRU_NUM_THREADS")) return n;
  if (const Index n = from_openmp()) return n;
  const Index cpus = from_affinity(), quota = cpus_of_cgroup("");
  return std::clamp<Index>(quota > 0 ? std::min(cpus, quota) : cpus, 1, kMostThreads);
}

}  // namespace

// A line of /proc/self/cgroup is "number:controllers:path": version 2 has no controllers and one
// mount for all, version 1 a mount for each list of controllers.
Index cpus_of_cgroup(const std::string& root) {
  const std::string mounts = root + "/sys/fs/cgroup";
  double least = std::min(quota_in(mounts), quota_in(mounts + "/cpu"));
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty())
      least = std::min(least, quota_along(mounts, path));
    else if (("," + controllers + ",").find(",cpu,") != line.npos)
      least = std::min({least, quota_along(mounts + "/" + controllers, path),
                        quota_along(mounts + "/cpu", path)});
  }
  if (least > static_cast<double>(kMostThreads)) return 0;
  return std::max<Index>(1, static_cast<Index>(std::ceil(least)));
}

Index num_threads() {
  Index n = chosen;
  if (n == 0) {
    const Index detected = detect();
    // What another thread has set meanwhile stays, and comes back in n.
    if (chosen.compare_exchange_strong(n, detected)) n = detected;
  }
  return n;
}

void set_num_threads(Index n) {
  if (n < 1 || n > kMostThreads)
    throw std::invalid_argument("set_num_threads: n must be " + valid() + ", got " +
                                std::to_string(n));
  chosen = n;
}

}  // namespace pygru

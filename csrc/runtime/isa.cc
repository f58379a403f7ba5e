// SPDX-License-Identifier: MIT
// The rows of instruction sets, each with its table of kernels and how to ask the CPU for it.
#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "text.h"

namespace pygru {

#if defined(__x86_64__)
extern const KernelTable table_baseline, table_avx2, table_avx512;
#elif defined(__aarch64__)
extern const KernelTable table_neon;
#else
extern const KernelTable table_baseline;
#endif

namespace {

struct Isa {
  const char* name;
  const KernelTable* table;
  bool (*supported)();
};

// A new instruction set: one row here, one line in CMakeLists.txt. Best last.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"baseline", &table_baseline, [] { return true; }},
    {"avx2", &table_avx2,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
    {"avx512", &table_avx512,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
              __builtin_cpu_supports("fma");
     }},
#elif defined(__aarch64__)
    {"neon", &table_neon, [] { return true; }},
#else
    {"baseline", &table_baseline, [] { return true; }},
#endif
};

// `asked`: by whom or what, for the error.
const Isa& find(const char* asked, const std::string& name) {
  bool known = false;
  std::string available;
  for (const Isa& isa : kIsas) {
    if (isa.supported()) {
      if (name == isa.name) return isa;
      if (!available.empty()) available += ", ";
      available += isa.name;
    }
    known = known || name == isa.name;
  }
  const char* why = known ? "this CPU does not support it" : "no such instruction set";
  throw std::invalid_argument(asked + ("=" + printable(name)) + ": " + why +
                              " (available: " + available + ")");
}

const Isa& choose() {
  const char* forced = std::getenv("PYGRU_ISA");
  return find("PYGRU_ISA", forced && *forced ? forced : available_isas().back());
}

std::atomic<const Isa*> current = nullptr;

const Isa& in_use() {
  const Isa* isa = current.load(std::memory_order_acquire);
  if (!isa) {
    const Isa* const chosen = &choose();
    // What another thread has forced meanwhile stays, and comes back in isa.
    if (current.compare_exchange_strong(isa, chosen)) isa = chosen;
  }
  return *isa;
}

}  // namespace

const KernelTable& kernels() {
  return *in_use().table;
}

std::string isa_name() {
  return in_use().name;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas)
    if (isa.supported()) names.emplace_back(isa.name);
  return names;
}

void use_isa(const std::string& name) {
  current.store(&find("use_isa: name", name), std::memory_order_release);
}

}  // namespace pygru

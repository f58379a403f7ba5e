// SPDX-License-Identifier: MIT
// Memory that a thread's calls use one after the other: it grows to the largest need and is then
// reused.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "../kernels/args.h"

namespace pygru {

class Buffer {
 public:
  static constexpr std::align_val_t alignment{64};

  // At least `bytes` bytes, aligned to a cache line; the contents of before are lost when it grows.
  void* reserve(Index bytes) {
    if (bytes > size_) {
      memory_.reset();
      size_ = 0;
      memory_.reset(::operator new(static_cast<std::size_t>(bytes), alignment));
      size_ = bytes;
    }
    return memory_.get();
  }

  void* get() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete(p, alignment); }
  };
  std::unique_ptr<void, Free> memory_;
  Index size_ = 0;
};

// One for each purpose that is alive at the same time within a call.
enum class Purpose { packed, scratch, bookkeeping };

inline Buffer& workspace(Purpose purpose, int run = 0) {
  thread_local Buffer buffers[2][3];
  return buffers[run][static_cast<int>(purpose)];
}

}  // namespace pygru

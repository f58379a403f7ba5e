// SPDX-License-Identifier: MIT
// Text from outside, as errors show it.
#pragma once

#include <string>

namespace pygru {

// Bytes that are no printable ASCII as \xNN: an environment variable need not be valid UTF-8, but
// the message of a Python error must.
inline std::string printable(const std::string& text) {
  constexpr const char* digits = "0123456789abcdef";
  std::string shown;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= ' ' && byte <= '~')
      shown += c;
    else
      shown += {'\\', 'x', digits[byte / 16], digits[byte % 16]};
  }
  return shown;
}

}  // namespace pygru

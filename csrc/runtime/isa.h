// SPDX-License-Identifier: MIT
// Which instruction set runs: the best that this CPU has, or the one PYGRU_ISA names.
#pragma once

#include <string>
#include <vector>

#include "../kernels/kernel_table.h"

namespace pygru {

// The table in use. Chosen at the first call; throws std::invalid_argument for a PYGRU_ISA that is
// unknown or that this CPU does not support.
const KernelTable& kernels();

std::string isa_name();

// Best last.
std::vector<std::string> available_isas();

// Forces an instruction set from now on; throws std::invalid_argument like kernels().
void use_isa(const std::string& name);

}  // namespace pygru

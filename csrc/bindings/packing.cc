// SPDX-License-Identifier: MIT
// _core.PackedModel: the layers of a model, checked and packed, for streams to share.
#include "packing.h"

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "../runtime/isa.h"
#include "arrays.h"
#include "register.h"

namespace pygru {
namespace {

// The rows and columns of a W (G*H, I).
std::pair<Index, Index> size_of(const py::handle& W, Index G) {
  if (!py::isinstance<py::array>(W)) throw py::type_error("_core: W must be an array");
  const auto array = py::reinterpret_borrow<py::array>(W);
  if (array.ndim() != 2 || array.shape(0) % G != 0)
    throw std::invalid_argument("_core: W must be of shape (G*H, I) with G = " + std::to_string(G) +
                                ", got " + text_of(array.attr("shape")));
  return {array.shape(0), array.shape(1)};
}

// (cell, W (G*H, I), U (G*H, H), b_x or None, b_h or None), ("linear", W (M, K), b or None),
// ("layer_norm", w (K,), b (K,), eps), (activation, K), or as the first ("embedding", W (K, M)) or
// ("one_hot", K).
template <class Real>
LayerWeights<Real> layer_of(const py::tuple& given) {
  using V = View<Real>;
  constexpr auto in = Access::read;
  const auto name = given.empty() ? "" : given[0].cast<std::string>();
  const auto expect = [&](std::size_t entries) {
    if (given.size() != entries)
      throw std::invalid_argument("_core: a layer " + name + " must have " +
                                  std::to_string(entries) + " entries");
  };
  LayerWeights<Real> to = {};
  LayerOutline& is = to.outline;
  if (name == "linear") {
    expect(3);
    is.kind = LayerKind::linear;
    std::tie(is.outputs, is.inputs) = size_of(given[1], 1);
    to.weights.W = constant(V(given[1], "W", "(M, K)", {is.outputs, is.inputs}, in).matrix());
    to.weights.b_x = V(given[2], "b", "(M,)", {is.outputs}, in, true).vector();
  } else if (name == "layer_norm") {
    expect(4);
    is.kind = LayerKind::layer_norm;
    const bool array = py::isinstance<py::array>(given[1]);
    const Index K = array ? py::reinterpret_borrow<py::array>(given[1]).size() : 0;
    is.inputs = is.outputs = K;
    to.w = V(given[1], "w", "(K,)", {K}, in).vector();
    to.weights.b_x = V(given[2], "b", "(K,)", {K}, in).vector();
    is.eps = given[3].cast<double>();
  } else if (name == "embedding") {
    expect(2);
    is.kind = LayerKind::embedding;
    std::tie(is.inputs, is.outputs) = size_of(given[1], 1);
    to.weights.W = constant(V(given[1], "W", "(K, M)", {is.inputs, is.outputs}, in).rows());
  } else if (name == "one_hot") {
    expect(2);
    is.kind = LayerKind::one_hot;
    is.inputs = is.outputs = given[1].cast<Index>();
  } else if (const auto activation = find_named<Activation>(name, kActivationNames)) {
    expect(2);
    is.kind = LayerKind::activation;
    is.activation = *activation;
    is.inputs = is.outputs = given[1].cast<Index>();
  } else {
    is.kind = LayerKind::cell;
    is.cell = named<Cell>("cell", name, kCellNames);
    expect(5);
    const Index G = cell_of<Real>(kernels(), is.cell).gates;
    const auto [rows, inputs] = size_of(given[1], G);
    const Index H = rows / G;
    is.inputs = inputs;
    is.outputs = H;
    to.weights.W = constant(V(given[1], "W", "(G*H, I)", {rows, inputs}, in).matrix());
    to.weights.U = constant(V(given[2], "U", "(G*H, H)", {rows, H}, in).matrix());
    to.weights.b_x = V(given[3], "b_x", "(G*H,)", {rows}, in, true).vector();
    to.weights.b_h = V(given[4], "b_h", "(G*H,)", {rows}, in, true).vector();
  }
  return to;
}

// Of the type of its weights.
AnyModel pack(const py::list& layers) {
  std::vector<py::tuple> given;
  py::object weights = py::none();  // the first there are
  for (const auto& layer : layers) {
    given.push_back(py::cast<py::tuple>(layer));
    if (weights.is_none() && given.back().size() > 2) weights = given.back()[1];
  }
  if (weights.is_none())
    throw std::invalid_argument("_core: a stream needs at least one layer with weights");
  return with_dtype(weights, "W", [&](auto real) -> AnyModel {
    using Real = decltype(real);
    std::vector<LayerWeights<Real>> all;
    for (const py::tuple& layer : given) {
      const LayerOutline next = all.emplace_back(layer_of<Real>(layer)).outline;
      const bool first = all.size() == 1;
      const bool follows = first || (all[all.size() - 2].outline.outputs == next.inputs &&
                                     !reads_classes(next.kind));
      if (next.inputs < 1 || next.outputs < 1 || !follows)
        throw std::invalid_argument("_core: the layers of a stream must fit together");
    }
    return {std::make_shared<const PackedModel<Real>>(all)};
  });
}

}  // namespace

void register_packing(py::module_& m) {
  py::class_<AnyModel>(m, "PackedModel").def(py::init(&pack), py::arg("layers"));
}

}  // namespace pygru

// SPDX-License-Identifier: MIT
// Streams: pygru.Stream inherits from _core.Stream, whose step() is called without any Python
// between.
#include "../runtime/stream.h"

#include <variant>

#include "../runtime/isa.h"
#include "arrays.h"
#include "register.h"

namespace pygru {
namespace {

template <class Real>
using Model = std::shared_ptr<const PackedModel<Real>>;

// The packed weights of a model of either type, shared by its streams.
struct AnyModel {
  std::variant<Model<float>, Model<double>> model;
};

// layers: (cell or None for a Linear, W (G*H, I), U (G*H, H) or None, b_x or None, b_h or None).
AnyModel pack(const py::list& layers) {
  if (layers.empty()) throw std::invalid_argument("_core: a stream needs at least one layer");
  const py::handle first_weight = py::cast<py::tuple>(layers[0])[1];
  return with_dtype(first_weight, "W", [&](auto real) -> AnyModel {
    using Real = decltype(real);
    using V = View<Real>;
    constexpr auto in = Access::read;
    std::vector<LayerWeights<Real>> all;
    for (const auto& item : layers) {
      const auto layer = py::cast<py::tuple>(item);
      if (layer.size() != 5) throw std::invalid_argument("_core: each layer must have 5 entries");
      const auto W = py::array::ensure(layer[1]);
      if (!W || W.ndim() != 2) throw std::invalid_argument("_core: W must have two axes");
      LayerWeights<Real> to = {};
      to.recurrent = !layer[0].is_none();
      to.inputs = W.shape(1);
      const Index rows = W.shape(0);
      to.outputs = rows;
      if (to.recurrent) {
        to.cell = cell_named(layer[0].cast<std::string>());
        const Index G = kernels_of<Real>(kernels()).cell[static_cast<int>(to.cell)].gates;
        to.outputs = rows / G;
        to.weights.U =
            constant(V(layer[2], "U", "(G*H, H)", {to.outputs * G, to.outputs}, in).matrix());
      }
      to.weights.W = constant(V(W, "W", "(G*H, I)", {rows, to.inputs}, in).matrix());
      to.weights.b_x = V(layer[3], "b_x", "(G*H,)", {rows}, in, true).vector();
      to.weights.b_h = V(layer[4], "b_h", "(G*H,)", {rows}, in, true).vector();
      if (to.inputs < 1 || to.outputs < 1 || (!all.empty() && all.back().outputs != to.inputs))
        throw std::invalid_argument("_core: the layers of a stream must fit together");
      all.push_back(to);
    }
    return {std::make_shared<const PackedModel<Real>>(all)};
  });
}

class AnyStream {
 public:
  // `batch` < 0: one sequence, without an axis for it.
  AnyStream(const AnyModel& model, Index batch)
      : batched_(batch >= 0),
        stream_(std::visit(
            [&](const auto& packed) -> Streams {
              using Packed = typename std::decay_t<decltype(packed)>::element_type;
              return make(packed, static_cast<const Packed*>(nullptr), batched_ ? batch : 1);
            },
            model.model)) {}

  py::object step(const py::handle& x, const py::object& out) {
    return std::visit([&](auto& stream) { return run(*stream, x, out, false); }, stream_);
  }

  py::object process(const py::handle& block, const py::object& out) {
    return std::visit([&](auto& stream) { return run(*stream, block, out, true); }, stream_);
  }

  // Copies of the states, (B, H) each.
  py::list states() {
    return std::visit(
        [](auto& stream) {
          py::list all;
          for (std::size_t i = 0; i < stream->states(); ++i) {
            const auto& state = stream->state(i);
            using Real = typename std::decay_t<decltype(state)>::value_type;
            const Index B = stream->batch(), H = static_cast<Index>(state.size()) / B;
            all.append(py::array_t<Real>({B, H}, state.data()));
          }
          return all;
        },
        stream_);
  }

  // All of them, (B, H) contiguous each, or nothing is changed.
  void set_states(const py::list& all) {
    std::visit(
        [&](auto& stream) {
          if (all.size() != stream->states())
            throw std::invalid_argument("_core: states must have one entry per recurrent layer");
          using Real = typename std::decay_t<decltype(stream->state(0))>::value_type;
          std::vector<const Real*> from;
          for (std::size_t i = 0; i < all.size(); ++i) {
            const Index B = stream->batch(), H = static_cast<Index>(stream->state(i).size()) / B;
            const auto view = View<Real>(all[i], "state", "(B, H)", {B, H}, Access::read).batch();
            if (B > 1 && view.b_stride != H)
              throw std::invalid_argument("_core: state must be contiguous");
            from.push_back(view.data);
          }
          for (std::size_t i = 0; i < all.size(); ++i)
            std::copy_n(from[i], stream->state(i).size(), stream->state(i).begin());
        },
        stream_);
  }

  void reset() {
    std::visit(
        [](auto& stream) {
          for (std::size_t i = 0; i < stream->states(); ++i)
            std::fill(stream->state(i).begin(), stream->state(i).end(), 0);
        },
        stream_);
  }

 private:
  using Streams = std::variant<std::unique_ptr<Stream<float>>, std::unique_ptr<Stream<double>>>;

  template <class Real>
  static Streams make(const Model<Real>& packed, const PackedModel<Real>*, Index batch) {
    return std::make_unique<Stream<Real>>(packed, batch);
  }

  // x (I,), (B, I), (T, I) or (T, B, I): a C-contiguous array of the stream's type is used where it
  // lies, anything else is converted by NumPy.
  template <class Real>
  py::object run(Stream<Real>& stream, const py::handle& x, const py::object& out, bool block) {
    const char* const where = block ? "Stream.process: block" : "Stream.step: x";
    const auto in = converted<Real>(x, where);
    Index shape[3];
    Index axes = 0;
    Index T = 1;
    if (block) {
      if (in.ndim() < 1) throw std::invalid_argument(std::string(where) + " must have a time axis");
      T = shape[axes++] = in.shape(0);
    }
    if (batched_) shape[axes++] = stream.batch();
    shape[axes++] = stream.inputs();
    check(in, where, shape, axes);
    shape[axes - 1] = stream.outputs();
    py::object result = out;
    if (out.is_none()) {
      result = py::array_t<Real>(std::vector<Index>(shape, shape + axes));
    } else {
      if (!py::isinstance<py::array_t<Real, py::array::c_style>>(out))
        throw py::type_error("Stream: out must be a C-contiguous array of the stream's dtype");
      check(py::reinterpret_borrow<py::array>(out), "Stream: out", shape, axes);
    }
    auto target = py::reinterpret_borrow<py::array_t<Real>>(result);
    Real* const y = target.mutable_data();  // an error where it is read-only
    const Real* const from = in.data();
    {
      const Busy alone(*this);
      // Under the GIL for what takes a microsecond; without it for what takes longer.
      if (block || stream.inputs() * stream.outputs() * stream.batch() > 4096) {
        without_gil([&] { stream.run(from, T, y); });
      } else {
        stream.run(from, T, y);
      }
    }
    return result;
  }

  // Two threads in one stream would tear its state.
  struct Busy {
    explicit Busy(AnyStream& s) : stream(s) {
      if (stream.busy_)
        throw std::runtime_error("Stream: used by two threads at once; give each its own stream");
      stream.busy_ = true;
    }
    ~Busy() { stream.busy_ = false; }
    AnyStream& stream;
  };

  template <class Real>
  static py::array_t<Real, py::array::c_style> converted(const py::handle& x, const char* where) {
    using Contiguous = py::array_t<Real, py::array::c_style>;
    if (py::isinstance<Contiguous>(x)) return py::reinterpret_borrow<Contiguous>(x);
    const auto array = py::array::ensure(x);
    const char kind = array ? array.dtype().kind() : 'O';
    if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b') {
      PyErr_Clear();
      throw py::type_error(std::string(where) + " must hold real numbers, got dtype " +
                           (array ? py::str(array.dtype()).cast<std::string>() : "object"));
    }
    return py::array_t<Real, py::array::c_style | py::array::forcecast>::ensure(array);
  }

  static void check(const py::array& array, const char* where, const Index* shape, Index axes) {
    bool fits = array.ndim() == axes;
    for (Index i = 0; fits && i < axes; ++i) fits = array.shape(i) == shape[i];
    if (fits) return;
    std::string expected;
    for (Index i = 0; i < axes; ++i) {
      if (i > 0) expected += ", ";
      expected += std::to_string(shape[i]);
    }
    throw std::invalid_argument(std::string(where) + " must have shape (" + expected +
                                (axes == 1 ? ",)" : ")") + ", got " +
                                py::str(array.attr("shape")).cast<std::string>());
  }

  bool batched_;
  bool busy_ = false;
  Streams stream_;
};

constexpr const char* kStepDoc =
    R"(Take one step: x (I,), or (B, I) with a batch, to (O,) or (B, O).

Parameters
----------
x : array_like of shape (I,) or (B, I)
    A C-contiguous array of the model's dtype is read where it lies.
out : ndarray of shape (O,) or (B, O), optional
    Where to write; with it nothing is allocated.

Returns
-------
y : ndarray of shape (O,) or (B, O)
    What the last layer gives; ``out`` if that was given.

Raises
------
TypeError
    When x does not hold real numbers or out is no C-contiguous array of the model's dtype.
ValueError
    When a shape does not fit; the state is as it was.
RuntimeError
    When two threads use the stream at once.)";

constexpr const char* kProcessDoc =
    R"(Take T steps: block (T, I), or (T, B, I), to (T, O) or (T, B, O).

The same bits as T calls of `step`, and faster; parameters and errors are those of `step`.)";

}  // namespace

void register_stream(py::module_& m) {
  using py::arg;
  py::class_<AnyModel>(m, "PackedModel").def(py::init(&pack), arg("layers"));
  py::class_<AnyStream>(m, "Stream")
      .def(py::init<const AnyModel&, Index>(), arg("model"), arg("batch"))
      .def("step", &AnyStream::step, arg("x"), arg("out") = py::none(), kStepDoc)
      .def("process", &AnyStream::process, arg("block"), arg("out") = py::none(), kProcessDoc)
      .def("_states", &AnyStream::states)
      .def("_set_states", &AnyStream::set_states, arg("states"))
      .def("reset", &AnyStream::reset, "Set the state of every layer to 0.");
}

}  // namespace pygru

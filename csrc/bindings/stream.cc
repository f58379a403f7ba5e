// SPDX-License-Identifier: MIT
// Streams: pygru.Stream inherits from _core.Stream, whose step() is called without any Python
// between.
#include "../runtime/stream.h"

#include <atomic>
#include <functional>
#include <type_traits>
#include <variant>

#include "../runtime/thread_pool.h"
#include "arrays.h"
#include "gil.h"
#include "method.h"
#include "packing.h"
#include "register.h"

namespace pygru {
namespace {

// Sequences in one stream: with so many, and layers as wide as memory allows, no product overflows.
constexpr Index kMostSequences = 1 << 24;

class AnyStream {
 public:
  // `batch` < 0: one sequence, without an axis for it.
  AnyStream(const AnyModel& model, Index batch)
      : batched_(batch >= 0),
        stream_(std::visit(
            [&]<class Real>(const Model<Real>& packed) -> Streams {
              if (batch == 0 || batch > kMostSequences)
                throw std::invalid_argument(
                    "_core: batch must be from 1 to " + std::to_string(kMostSequences) +
                    ", or negative for no such axis, got " + std::to_string(batch));
              return std::make_unique<Stream<Real>>(packed, batched_ ? batch : 1);
            },
            model.model)) {}

  // step(x, out), or process(x, out) where x is a block.
  py::object call(py::handle x, py::handle out, bool is_block) {
    return std::visit(
        [&]<class Real>(std::unique_ptr<Stream<Real>>& stream) {
          return stream->of_classes() ? run<Index>(*stream, x, out, is_block)
                                      : run<Real>(*stream, x, out, is_block);
        },
        stream_);
  }

  // Copies of the states, (B, H) each.
  py::list states() {
    const Busy alone(*this);
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
    const Busy alone(*this);
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
          for (std::size_t i = 0; i < all.size(); ++i) stream->set_state(i, from[i]);
        },
        stream_);
  }

  // All of them, or those of some sequences (N,), or nothing is changed.
  void reset(py::handle sequences) {
    const Busy alone(*this, sequences.is_none());
    std::visit(
        [&](auto& stream) {
          if (sequences.is_none()) return stream->reset();
          const Index N = static_cast<Index>(py::len(sequences));
          const Index* const b =
              View<Index>(sequences, "sequences", "(N,)", {N}, Access::read).vector();
          for (Index i = 0; i < N; ++i)
            if (b[i] < 0 || b[i] >= stream->batch())
              throw std::invalid_argument("_core: sequences must be below B");
          for (Index i = 0; i < N; ++i) stream->reset_sequence(b[i]);
        },
        stream_);
  }

 private:
  using Streams = std::variant<std::unique_ptr<Stream<float>>, std::unique_ptr<Stream<double>>>;

  // x (I,), (B, I), (T, I) or (T, B, I), without I where it holds integers: a C-contiguous array of
  // the stream's type, or of int64, is used where it lies, anything else is converted by NumPy.
  template <class X, class Real>
  py::object run(Stream<Real>& stream, py::handle x, py::handle out, bool is_block) {
    const char* const where = is_block ? "Stream.process: block" : "Stream.step: x";
    const char* const where_out = is_block ? "Stream.process: out" : "Stream.step: out";
    constexpr bool of_classes = std::is_same_v<X, Index>;
    const auto in = converted<X>(x, where);
    Index shape[3];
    Index axes = 0;
    Index T = 1;
    if (is_block) {
      if (in.ndim() < 1) throw std::invalid_argument(std::string(where) + " must have a time axis");
      T = shape[axes++] = in.shape(0);
    }
    if (batched_) shape[axes++] = stream.batch();
    if (!of_classes) shape[axes++] = stream.inputs();
    check(in, where, shape, axes, is_block);
    for (Index i = 0; of_classes && i < in.size(); ++i)
      if (in.data()[i] < 0 || in.data()[i] >= static_cast<X>(stream.inputs()))
        throw std::invalid_argument(std::string(where) + " must hold integers in 0 .. K-1 = " +
                                    std::to_string(stream.inputs() - 1) + ", got " +
                                    std::to_string(in.data()[i]));
    if (of_classes) ++axes;
    shape[axes - 1] = stream.outputs();
    auto result = py::reinterpret_borrow<py::object>(out);
    if (out.is_none()) {
      result = py::array_t<Real>(std::vector<Index>(shape, shape + axes));
    } else {
      check_out<Real>(out, where_out);
      check(py::reinterpret_borrow<py::array>(out), where_out, shape, axes);
    }
    auto target = py::reinterpret_borrow<py::array_t<Real>>(result);
    Real* const y = target.mutable_data();
    const X* const from = in.data();
    if (overlap(from, in.size(), y, target.size()))
      throw std::invalid_argument(std::string(where_out) + " must not overlap " +
                                  (is_block ? "block" : "x"));
    {
      const Busy alone(*this);
      in_team_without_gil(stream.operations(T), [&] { stream.run(from, T, y); });
    }
    return result;
  }

  // Two threads in one stream would tear its state. A thread that was inside at a fork does not
  // exist in the child, where it has left half a state: the child begins with reset().
  struct Busy {
    explicit Busy(AnyStream& s, bool resets = false) : stream(s) {
      const unsigned now = process_generation();
      unsigned inside = 0;
      if (stream.busy_.compare_exchange_strong(inside, now)) return;
      if (inside == now)
        throw std::runtime_error("Stream: used by two threads at once; give each its own stream");
      if (!resets)
        throw std::runtime_error(
            "Stream: a thread was inside when this process was forked; call reset() first");
      stream.busy_ = now;
    }
    ~Busy() { stream.busy_ = 0; }
    AnyStream& stream;
  };

  // A layer writes its first outputs before it has read its last inputs.
  template <class X, class Real>
  static bool overlap(const X* x, Index x_size, const Real* y, Index y_size) {
    const std::less<const void*> before;
    return before(x, y + y_size) && before(y, x + x_size);
  }

  template <class X>
  static py::array_t<X, py::array::c_style> converted(py::handle x, const char* where) {
    using Contiguous = py::array_t<X, py::array::c_style>;
    if (masked(x))
      throw std::invalid_argument(std::string(where) + " must have no masked elements, got some");
    if (py::isinstance<Contiguous>(x) && aligned(x)) return py::reinterpret_borrow<Contiguous>(x);
    const py::array array = any_array(x, where);
    const char kind = array.dtype().kind();
    constexpr bool integers = std::is_same_v<X, Index>;
    const std::string kinds = integers && array.size() > 0 ? "iu" : "fiub";  // [] is of floats
    if (kinds.find(kind) == std::string::npos)
      throw py::type_error(std::string(where) + " must hold " +
                           (integers ? "integers" : "real numbers") + ", got dtype " +
                           text_of(array.dtype()));
    constexpr int flags = py::array::c_style | py::array::forcecast | kAligned;
    py::array_t<X, flags> result(array);
    if (integers && kind == 'u')  // from 2^63 on they come out negative
      for (Index i = 0; i < result.size(); ++i)
        if (result.data()[i] < 0)
          throw std::invalid_argument(std::string(where) +
                                      " must hold classes, got one above 2^63");
    return result;
  }

  // An array of whatever x holds. What x's own __array__ raises is passed on.
  static py::array any_array(py::handle x, const char* where) {
    try {
      return py::array(py::reinterpret_borrow<py::object>(x));
    } catch (const py::error_already_set& error) {
      const bool nested = py::isinstance<py::list>(x) || py::isinstance<py::tuple>(x);
      if (!nested || !error.matches(PyExc_ValueError)) throw;
      throw std::invalid_argument(std::string(where) +
                                  " must be one array, got nested sequences of unequal lengths");
    }
  }

  template <class Real>
  static void check_out(py::handle out, const char* where) {
    const bool contiguous = py::isinstance<py::array_t<Real, py::array::c_style>>(out);
    if (!contiguous || !aligned(out)) {
      std::string got = kind_of(out);
      if (py::isinstance<py::array_t<Real>>(out))
        got += contiguous ? " that is not aligned" : " that is not C-contiguous";
      throw py::type_error(std::string(where) + " must be a C-contiguous, aligned array of " +
                           text_of(py::dtype::of<Real>()) + ", got " + got);
    }
    if (!py::reinterpret_borrow<py::array>(out).writeable())
      throw std::invalid_argument(std::string(where) + " must be writeable, got a read-only array");
  }

  // Whether x is an array with masked elements, which would silently count as their values.
  static bool masked(py::handle x) {
    const auto* const plain = py::detail::npy_api::get().PyArray_Type_;
    if (Py_TYPE(x.ptr()) == plain || !py::isinstance<py::array>(x)) return false;
    return py::module_::import("numpy").attr("ma").attr("is_masked")(x).cast<bool>();
  }

  static void check(const py::array& array, const char* where, const Index* shape, Index axes,
                    bool any_time = false) {
    bool fits = array.ndim() == axes;
    for (Index i = 0; fits && i < axes; ++i) fits = array.shape(i) == shape[i];
    if (fits) return;
    throw std::invalid_argument(std::string(where) + " must have shape " +
                                text_of(shape, axes, any_time) + ", got " +
                                text_of(array.attr("shape")));
  }

  bool batched_;
  std::atomic<unsigned> busy_ = 0;  // process_generation() while a thread is inside
  Streams stream_;
};

constexpr const char* kStepDoc =
    R"(step($self, /, x, out=None)
--

Take one step: x (I,), or (B, I) with a batch, to (O,) or (B, O).

Parameters
----------
x : array_like of shape (I,) or (B, I)
    A C-contiguous, aligned array of the model's dtype is read where it lies. Where the model begins
    with an Embedding or OneHot: an integer or (B,) of them; one of int64 is read where it lies.
out : ndarray of shape (O,) or (B, O), optional
    Where to write; with it, and x read where it lies, nothing is allocated.

Returns
-------
y : ndarray of shape (O,) or (B, O)
    What the last layer gives; ``out`` if that was given.

Raises
------
TypeError
    When x does not hold real numbers (or integers), or out is no C-contiguous, aligned array of the
    model's dtype.
ValueError
    When a shape does not fit, x has masked elements or an integer that is no class, or out overlaps
    x; the state is as it was.
RuntimeError
    When two threads use the stream at once, or in a forked child when a thread was inside at the
    fork, until `reset`.)";

constexpr const char* kProcessDoc =
    R"(process($self, /, block, out=None)
--

Take T steps: block (T, I), or (T, B, I), to (T, O) or (T, B, O). Time comes first here, whatever the
model's batch_first.

Of integers block is (T,), or (T, B).

The same bits as T calls of `step`, and faster; parameters and errors are those of `step`.)";

}  // namespace
}  // namespace pygru

template <>
class pybind11::detail::type_caster<pygru::AnyStream>
    : public pygru::Initialised<pygru::AnyStream> {};

namespace pygru {

namespace {

template <bool is_block>
PyObject* call(PyObject* self, PyObject* const* given, Py_ssize_t positional, PyObject* names) {
  return as_python([&] {
    const XAndOut a = is_block ? x_and_out("Stream.process", "block", given, positional, names)
                               : x_and_out("Stream.step", "x", given, positional, names);
    return py::cast<AnyStream&>(py::handle(self)).call(a.x, a.out, is_block);
  });
}

}  // namespace

void register_stream(py::module_& m) {
  using py::arg;
  m.attr("MOST_SEQUENCES") = kMostSequences;
  py::class_<AnyStream> stream(m, "Stream");
  stream.def(py::init<const AnyModel&, Index>(), arg("model"), arg("batch"))
      .def("_states", &AnyStream::states)
      .def("_set_states", &AnyStream::set_states, arg("states"))
      .def("_reset", &AnyStream::reset, arg("sequences"));
  static PyMethodDef step = method("step", &call<false>, kStepDoc);
  static PyMethodDef process = method("process", &call<true>, kProcessDoc);
  add_method(stream, step);
  add_method(stream, process);
}

}  // namespace pygru

# SPDX-License-Identifier: MIT
"""Every rival, each in the configuration that its own documentation recommends for a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from contender import ANSWER, Contender, NumPy, Run, Step, swap_gates
from shapes import Array, Problem


class PyTorch(Contender):
    """`nn.GRU`, in `inference_mode` where no gradient is wanted; `nn.GRUCell` for single steps.

    `nn.RNN` and `nn.RNNCell` likewise.
    """

    name = "torch"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import torch

        self.torch, self.version = torch, torch.__version__
        torch.set_num_threads(threads)

    def _load(self, problem: Problem, *, step: bool) -> Any:
        kind = ("RNN" if problem.cell == "rnn" else "GRU") + ("Cell" if step else "")
        module = getattr(self.torch.nn, kind)(problem.shape.I, problem.shape.H)
        suffix = "" if step else "_l0"
        names = {name.removesuffix("_l0") + suffix: v for name, v in problem.state_dict().items()}
        module.load_state_dict({name: self.torch.from_numpy(v) for name, v in names.items()})
        return module

    def inference(self, problem: Problem) -> Run | None:
        if problem.cell == "gru_before":
            return None
        torch, x = self.torch, problem.x
        layer = self._load(problem, step=False).eval()

        def call() -> Any:
            with torch.inference_mode():
                return layer(torch.from_numpy(x))[0].numpy()

        return Run(call, lambda y: {"y": y})

    def training(self, problem: Problem) -> Run | None:
        if problem.cell == "gru_before":
            return None
        torch, x, dy = self.torch, problem.x, self.torch.from_numpy(problem.dy)
        layer = self._load(problem, step=False)
        W, U, b_x, b_h = layer.parameters()

        def call() -> list[Array]:
            layer.zero_grad(set_to_none=True)
            leaf = torch.from_numpy(x).requires_grad_()
            y = layer(leaf)[0]
            y.backward(dy)
            gradients = [leaf.grad, W.grad, U.grad, b_x.grad, b_h.grad]
            return [y.detach().numpy(), *(gradient.numpy() for gradient in gradients)]

        return Run(call, lambda r: dict(zip(ANSWER, r, strict=True)))

    def streaming(self, problem: Problem) -> Step | None:
        if problem.cell == "gru_before":
            return None
        torch = self.torch
        cell = self._load(problem, step=True).eval()
        state = [torch.zeros(problem.shape.H)]

        def step(x_t: Array) -> Any:
            with torch.inference_mode():
                state[0] = cell(torch.from_numpy(x_t), state[0])
            return state[0].numpy()

        return step


class OnnxRuntime(Contender):
    """One GRU or RNN node in one session, the weights as initialisers: they are packed once."""

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import onnx
        import onnxruntime

        self.onnx, self.ort, self.version = onnx, onnxruntime, onnxruntime.__version__

    def _session(self, problem: Problem, *, carried: bool) -> Any:
        helper, onnx, shape = self.onnx.helper, self.onnx, problem.shape
        T = 1 if carried else shape.T
        bias = np.concatenate((swap_gates(problem, problem.b_x), swap_gates(problem, problem.b_h)))
        initializers = [
            onnx.numpy_helper.from_array(array[None], name)
            for name, array in {
                "W": swap_gates(problem, problem.W),
                "R": swap_gates(problem, problem.U),
                "B": bias,
            }.items()
        ]

        def value(name: str, *size: int) -> Any:
            return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, size)

        variant = (
            {} if problem.cell == "rnn" else {"linear_before_reset": problem.cell == "gru_after"}
        )
        node = helper.make_node(
            "RNN" if problem.cell == "rnn" else "GRU",
            ["X", "W", "R", "B", *(["", "h_0"] if carried else [])],
            ["", "Y_h"] if carried else ["Y"],
            hidden_size=shape.H,
            **variant,
        )
        state = (1, shape.B, shape.H)
        graph = helper.make_graph(
            [node],
            "gru",
            [value("X", T, shape.B, shape.I), *([value("h_0", *state)] if carried else [])],
            [value("Y_h", *state) if carried else value("Y", T, 1, shape.B, shape.H)],
            initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        options = self.ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        return self.ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def inference(self, problem: Problem) -> Run:
        session, feed = self._session(problem, carried=False), {"X": problem.x}
        return Run(lambda: session.run(None, feed)[0], lambda y: {"y": y[:, 0]})

    def streaming(self, problem: Problem) -> Step:
        session = self._session(problem, carried=True)
        feed = {"h_0": np.zeros((1, 1, problem.shape.H), np.float32)}

        def step(x_t: Array) -> Any:
            feed["X"] = x_t[None, None]
            feed["h_0"] = session.run(None, feed)[0]
            return feed["h_0"][0, 0]

        return step


class OpenVINO(Contender):
    """One GRUSequence or RNNSequence, compiled for latency in float32, memory shared with NumPy."""

    name = "openvino"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import openvino

        self.ov, self.version = openvino, openvino.__version__.split("-")[0]

    def _request(self, problem: Problem, T: int) -> Any:
        from openvino import opset13 as ops

        shape, after = problem.shape, problem.cell == "gru_after"
        B, H = shape.B, shape.H
        b_x, b_h = swap_gates(problem, problem.b_x), swap_gates(problem, problem.b_h)
        bias = b_x + b_h
        if after:  # z and r summed, then the two candidate biases apart
            bias = np.concatenate((bias[: 2 * H], b_x[2 * H :], b_h[2 * H :]))
        x = ops.parameter([B, T, shape.I], np.float32)
        h_0 = ops.parameter([B, 1, H], np.float32)
        inputs = [
            x,
            h_0,
            ops.constant(np.full(B, T, np.int32)),
            ops.constant(swap_gates(problem, problem.W)[None]),
            ops.constant(swap_gates(problem, problem.U)[None]),
            ops.constant(bias[None]),
        ]
        if problem.cell == "rnn":
            node = ops.rnn_sequence(*inputs, H, "forward")
        else:
            node = ops.gru_sequence(*inputs, H, "forward", linear_before_reset=after)
        model = self.ov.Model(node.outputs(), [x, h_0], "gru")
        compiled = self.ov.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": self.threads,
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        return compiled.create_infer_request()

    def inference(self, problem: Problem) -> Run:
        shape = problem.shape
        request = self._request(problem, shape.T)
        feed = [
            np.ascontiguousarray(problem.x.swapaxes(0, 1)),  # (B, T, I)
            np.zeros((shape.B, 1, shape.H), np.float32),
        ]

        def call() -> Any:
            return request.infer(feed, share_inputs=True, share_outputs=True)[0]

        return Run(call, lambda y: {"y": y[:, 0].swapaxes(0, 1)})  # (B, 1, T, H)

    def streaming(self, problem: Problem) -> Step:
        request = self._request(problem, 1)
        h = np.zeros((1, 1, problem.shape.H), np.float32)

        def step(x_t: Array) -> Any:
            feed = [x_t[None, None], h]
            h[:] = request.infer(feed, share_inputs=True, share_outputs=True)[1]
            return h[0, 0]

        return step


class JAX(Contender):
    """Jit-compiled: the input product of all steps at once, `lax.scan`; `vjp` for gradients."""

    name = "jax"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import jax

        self.jax, self.version = jax, jax.__version__

    def _functions(self, problem: Problem) -> tuple[Any, Any, Any]:
        jax, np_, before = self.jax, self.jax.numpy, problem.cell == "gru_before"

        def cell(weights: Any, h: Any, a: Any) -> Any:
            """One step from a = W x + b_x, (B, G*H)."""
            _, U, _, b_h = weights
            if problem.cell == "rnn":
                return np_.tanh(a + h @ U.T + b_h)
            H = h.shape[-1]
            if before:
                s = a[..., : 2 * H] + h @ U[: 2 * H].T + b_h[: 2 * H]
                r, z = np_.split(jax.nn.sigmoid(s), 2, axis=-1)
                n = np_.tanh(a[..., 2 * H :] + (r * h) @ U[2 * H :].T + b_h[2 * H :])
            else:
                c = h @ U.T + b_h
                r, z = np_.split(jax.nn.sigmoid((a + c)[..., : 2 * H]), 2, axis=-1)
                n = np_.tanh(a[..., 2 * H :] + r * c[..., 2 * H :])
            return z * h + (1 - z) * n

        def layer(weights: Any, x: Any) -> Any:
            W, U, b_x, _ = weights

            def body(h: Any, a: Any) -> Any:
                h = cell(weights, h, a)
                return h, h

            start = np_.zeros((x.shape[1], U.shape[1]), x.dtype)
            # Unrolling pays for a handful of steps; beyond that only compile time grows.
            return jax.lax.scan(body, start, x @ W.T + b_x, unroll=min(len(x), 8))[1]

        def step(weights: Any, h: Any, x_t: Any) -> Any:
            return cell(weights, h, x_t @ weights[0].T + weights[2])

        weights = tuple(map(np_.asarray, (problem.W, problem.U, problem.b_x, problem.b_h)))
        return weights, layer, step

    def inference(self, problem: Problem) -> Run:
        weights, layer, _ = self._functions(problem)
        compiled, x = self.jax.jit(layer), problem.x
        return Run(lambda: np.asarray(compiled(weights, x)), lambda y: {"y": y})

    def training(self, problem: Problem) -> Run:
        jax, x, dy = self.jax, problem.x, problem.dy
        weights, layer, _ = self._functions(problem)

        @jax.jit  # type: ignore[untyped-decorator]
        def compiled(weights: Any, x: Any, dy: Any) -> Any:
            y, pullback = jax.vjp(layer, weights, x)
            (dW, dU, db_x, db_h), dx = pullback(dy)
            return y, dx, dW, dU, db_x, db_h

        def call() -> list[Array]:
            return [np.asarray(array) for array in jax.block_until_ready(compiled(weights, x, dy))]

        return Run(call, lambda r: dict(zip(ANSWER, r, strict=True)))

    def streaming(self, problem: Problem) -> Step:
        weights, _, function = self._functions(problem)
        compiled = self.jax.jit(function)
        state = [self.jax.numpy.zeros(problem.shape.H, np.float32)]

        def step(x_t: Array) -> Any:
            state[0] = compiled(weights, state[0], x_t)
            return np.asarray(state[0])

        return step


class Keras(Contender):
    """`keras.layers.GRU` or `SimpleRNN` over TensorFlow inside one `tf.function`."""

    name = "keras"
    LARGEST = 512  # hidden units: beyond, it is far behind and would take half a minute alone

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            import keras

        self.keras, self.tf, self.version = keras, tf, keras.__version__

    def _build(self, problem: Problem) -> tuple[Any, list[Array]]:
        shape, after = problem.shape, problem.cell == "gru_after"
        options = {"return_sequences": True, "unroll": shape.T <= 8}
        if problem.cell == "rnn":
            layer = self.keras.layers.SimpleRNN(shape.H, **options)
        else:
            layer = self.keras.layers.GRU(shape.H, reset_after=after, **options)
        layer.build((shape.B, shape.T, shape.I))
        b_x, b_h = swap_gates(problem, problem.b_x), swap_gates(problem, problem.b_h)
        bias = np.stack((b_x, b_h)) if after else b_x + b_h
        layer.set_weights(
            [swap_gates(problem, problem.W).T, swap_gates(problem, problem.U).T, bias]
        )
        batch_first = [np.ascontiguousarray(a.swapaxes(0, 1)) for a in (problem.x, problem.dy)]
        return layer, batch_first

    def inference(self, problem: Problem) -> Run | None:
        if problem.shape.H > self.LARGEST:
            return None
        layer, (x, _) = self._build(problem)
        compiled, constant = self.tf.function(layer), self.tf.constant
        return Run(lambda: compiled(constant(x)).numpy(), lambda y: {"y": y.swapaxes(0, 1)})

    def training(self, problem: Problem) -> Run | None:
        if problem.shape.H > self.LARGEST:
            return None
        tf = self.tf
        layer, (x, dy) = self._build(problem)
        parameters = [v.value for v in layer.trainable_variables]

        @tf.function  # type: ignore[untyped-decorator]
        def compiled(x: Any, dy: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x, training=True)
            return y, tape.gradient(y, [x, *parameters], output_gradients=dy)

        def call() -> list[Array]:
            y, gradients = compiled(tf.constant(x), tf.constant(dy))
            return [array.numpy() for array in (y, *gradients)]

        def answer(result: list[Array]) -> dict[str, Array]:
            y, dx, dW, dU, db = result
            db_x, db_h = db if problem.cell == "gru_after" else (db, db)
            return {
                "y": y.swapaxes(0, 1),
                "dx": dx.swapaxes(0, 1),
                "dW": swap_gates(problem, dW.T),
                "dU": swap_gates(problem, dU.T),
                "db_x": swap_gates(problem, db_x),
                "db_h": swap_gates(problem, db_h),
            }

        return Run(call, answer)

    def streaming(self, problem: Problem) -> Step:
        cell, tf = self._build(problem)[0].cell, self.tf
        compiled = tf.function(lambda x_t, h: cell(x_t, [h])[0])
        state = [tf.zeros((1, problem.shape.H))]

        def step(x_t: Array) -> Any:
            state[0] = compiled(tf.constant(x_t[None]), state[0])
            return state[0].numpy()[0]

        return step


PEERS: dict[str, type[Contender]] = {
    rival.name: rival for rival in (NumPy, PyTorch, OnnxRuntime, OpenVINO, JAX, Keras)
}

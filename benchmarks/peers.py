# SPDX-License-Identifier: MIT
"""The rivals that train, and the list of all, each as its own documentation recommends."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from contender import ANSWER, Contender, NumPy, Run, Step, swap_gates
from runtimes import OnnxRuntime, OpenVINO
from shapes import Array, Batches, Epoch, Experiment, Problem


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

    def inferring(self) -> AbstractContextManager[Any]:
        mode: AbstractContextManager[Any] = self.torch.inference_mode()
        return mode

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
        return Run(lambda: layer(torch.from_numpy(x))[0].numpy(), lambda y: {"y": y})

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
        state = [torch.zeros(1, problem.shape.H)]

        def step(x_t: Array) -> Any:  # a batch of one: the cell would make one of a lone vector
            state[0] = cell(torch.from_numpy(x_t[None]), state[0])
            return state[0].numpy()[0]

        return step

    def experiment(self, task: Experiment) -> Epoch | None:
        if task.problem.cell == "gru_before":
            return None
        torch = self.torch
        gru = self._load(task.problem, step=False)
        gru.batch_first = True
        head = torch.nn.Linear(task.problem.shape.H, 1)
        head.load_state_dict({"weight": torch.from_numpy(task.V), "bias": torch.from_numpy(task.c)})
        X, Y = torch.from_numpy(task.X), torch.from_numpy(task.Y)
        parameters = [*gru.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(parameters, task.rate, fused=True)

        def epoch(batches: Batches) -> float:
            total = 0.0
            for batch in batches:
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.l1_loss(head(gru(X[batch])[1][0]), Y[batch])
                loss.backward()
                optimizer.step()
                total += loss.item()
            return total / len(batches)

        return epoch


class JAX(Contender):
    """Jit-compiled: the input product of all steps at once, `lax.scan`; `vjp` for gradients.

    Weights lie as is faster: (inputs, outputs) forward, where no call has to copy them transposed,
    and (outputs, inputs) in training.
    """

    name = "jax"
    # Where only y is wanted, loops are unrolled: all of them up to WHOLE steps, else UNROLL steps.
    # More would be as fast, and longer to compile; the gradient of an unrolled loop is slower.
    WHOLE, UNROLL = 8, 4

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import jax

        self.jax, self.version = jax, jax.__version__

    def _functions(self, problem: Problem, training: bool = False) -> tuple[Any, Any, Any]:
        jax, np_, before = self.jax, self.jax.numpy, problem.cell == "gru_before"
        H = problem.shape.H

        def times(a: Any, weights: Any, outputs: slice = slice(None)) -> Any:
            return a @ (weights[outputs].T if training else weights[:, outputs])

        def cell(weights: Any, h: Any, a: Any) -> Any:
            """One step from a = W x + b_x, (B, G*H)."""
            _, U, _, b_h = weights
            if problem.cell == "rnn":
                return np_.tanh(a + times(h, U) + b_h)
            if before:
                s = a[..., : 2 * H] + times(h, U, slice(2 * H)) + b_h[: 2 * H]
                r, z = np_.split(jax.nn.sigmoid(s), 2, axis=-1)
                n = np_.tanh(a[..., 2 * H :] + times(r * h, U, slice(2 * H, None)) + b_h[2 * H :])
            else:
                c = times(h, U) + b_h
                r, z = np_.split(jax.nn.sigmoid((a + c)[..., : 2 * H]), 2, axis=-1)
                n = np_.tanh(a[..., 2 * H :] + r * c[..., 2 * H :])
            return z * h + (1 - z) * n

        def layer(weights: Any, x: Any, unroll: int = 1) -> Any:
            W, _, b_x, _ = weights

            def body(h: Any, a: Any) -> Any:
                h = cell(weights, h, a)
                return h, h

            start = np_.zeros((x.shape[1], H), x.dtype)
            return jax.lax.scan(body, start, times(x, W) + b_x, unroll=unroll)[1]

        def step(weights: Any, h: Any, x_t: Any) -> Any:
            return cell(weights, h, times(x_t, weights[0]) + weights[2])

        matrices = (problem.W, problem.U) if training else (problem.W.T, problem.U.T)
        weights = tuple(map(np_.asarray, (*matrices, problem.b_x, problem.b_h)))
        return weights, layer, step

    def inference(self, problem: Problem) -> Run:
        weights, layer, _ = self._functions(problem)
        x, T = problem.x, problem.shape.T
        compiled = self.jax.jit(partial(layer, unroll=T if T <= self.WHOLE else self.UNROLL))
        return Run(lambda: np.asarray(compiled(weights, x)), lambda y: {"y": y})

    def training(self, problem: Problem) -> Run:
        jax, x, dy = self.jax, problem.x, problem.dy
        weights, layer, _ = self._functions(problem, training=True)

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

    def experiment(self, task: Experiment) -> Epoch:
        jax, np_ = self.jax, self.jax.numpy
        (W, U, b_x, b_h), layer, _ = self._functions(task.problem, training=True)  # b_h stays

        def loss(parameters: Any, x: Any, target: Any) -> Any:
            W, U, b, V, c = parameters
            h = layer((W, U, b, b_h), x.swapaxes(0, 1))[-1]
            return np_.abs(h @ V.T + c - target).mean()

        @jax.jit  # type: ignore[untyped-decorator]
        def update(state: Any, x: Any, target: Any) -> Any:
            """Take a step of Adam."""
            step, parameters, first, second = state
            value, gradients = jax.value_and_grad(loss)(parameters, x, target)
            step = step + 1
            first = [0.9 * m + 0.1 * g for m, g in zip(first, gradients, strict=True)]
            second = [0.999 * v + 0.001 * g * g for v, g in zip(second, gradients, strict=True)]
            rate, root = task.rate / (1 - 0.9**step), np_.sqrt(1 - 0.999**step)
            parameters = [
                p - rate * m / (np_.sqrt(v) / root + 1e-8)
                for p, m, v in zip(parameters, first, second, strict=True)
            ]
            return (step, parameters, first, second), value

        parameters = [W, U, b_x, np_.asarray(task.V), np_.asarray(task.c)]
        zeros = [np_.zeros_like(p) for p in parameters]
        state = [(np_.zeros(()), parameters, zeros, zeros)]

        def epoch(batches: Batches) -> float:
            values = []
            for batch in batches:
                state[0], value = update(state[0], task.X[batch], task.Y[batch])
                values.append(value)
            return float(np.mean(values))

        return epoch


class Keras(Contender):
    """`keras.layers.GRU` or `SimpleRNN` over TensorFlow in one function that XLA compiles.

    So does Keras itself in `fit` and `predict`.
    """

    name = "keras"
    # Hidden units: beyond, it is behind, in training far, and would take long to say so.
    LARGEST_INFERENCE, LARGEST_TRAINING = 512, 128

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            import keras

        self.keras, self.tf, self.version = keras, tf, keras.__version__
        self.compile = tf.function(jit_compile=True)

    def _build(self, problem: Problem, sequences: bool = True) -> tuple[Any, list[Array]]:
        shape, after = problem.shape, problem.cell == "gru_after"
        options = {"return_sequences": sequences, "unroll": shape.T <= 8}
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
        if problem.shape.H > self.LARGEST_INFERENCE:
            return None
        layer, (x, _) = self._build(problem)
        compiled, constant = self.compile(layer), self.tf.constant
        return Run(lambda: compiled(constant(x)).numpy(), lambda y: {"y": y.swapaxes(0, 1)})

    def training(self, problem: Problem) -> Run | None:
        if problem.shape.H > self.LARGEST_TRAINING:
            return None
        tf = self.tf
        layer, (x, dy) = self._build(problem)
        parameters = [v.value for v in layer.trainable_variables]

        @self.compile  # type: ignore[untyped-decorator]
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
        compiled = self.compile(lambda x_t, h: cell(x_t, [h])[0])
        state = [tf.zeros((1, problem.shape.H))]

        def step(x_t: Array) -> Any:
            state[0] = compiled(tf.constant(x_t[None]), state[0])
            return state[0].numpy()[0]

        return step

    def experiment(self, task: Experiment) -> Epoch:
        tf, shape = self.tf, task.problem.shape
        layer, _ = self._build(task.problem, sequences=False)
        head = self.keras.layers.Dense(1)
        head.build((shape.B, shape.H))
        head.set_weights([task.V.T, task.c])
        variables = [*layer.trainable_variables, *head.trainable_variables]
        optimizer = self.keras.optimizers.Adam(task.rate, epsilon=1e-8)
        optimizer.build(variables)

        @self.compile  # type: ignore[untyped-decorator]
        def update(x: Any, target: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.abs(head(layer(x, training=True)) - target))
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            optimizer.apply(gradients, variables)
            return loss

        def epoch(batches: Batches) -> float:
            values = [
                update(tf.constant(task.X[batch]), tf.constant(task.Y[batch])) for batch in batches
            ]
            return float(np.mean(values))

        return epoch


PEERS: dict[str, type[Contender]] = {
    rival.name: rival for rival in (NumPy, PyTorch, OnnxRuntime, OpenVINO, JAX, Keras)
}

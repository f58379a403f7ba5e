# SPDX-License-Identifier: MIT
"""The rivals that only run networks: ONNX Runtime and OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np
from contender import Contender, Run, Step, swap_gates
from shapes import Array, Problem


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

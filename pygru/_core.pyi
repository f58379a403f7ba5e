# SPDX-License-Identifier: MIT
"""The extension: C++ kernels on the caller's arrays (csrc/bindings).

All arrays of one call are float32 or all are float64. Unless said otherwise the last axis has unit
stride and the leading axes may have any. Nothing is allocated for the caller, nothing is cast; what
does not fit is an error before anything is written. The GIL is released while kernels run, but for
work of a microsecond.

W (G*H, I) and U (G*H, H) may lie either way round, and are read fastest as pygru keeps them,
input-major: as the transposes of C-contiguous arrays. Their gradients must lie so. G is 3 for a GRU
and 1 for an RNN.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

_Array: TypeAlias = npt.NDArray[np.floating[Any]]

_ForwardRun: TypeAlias = tuple[
    bool,  # reverse: each sequence backwards within its own length
    _Array,  # W (G*H, I)
    _Array,  # U (G*H, H)
    _Array | None,  # b_x (G*H,)
    _Array | None,  # b_h (G*H,)
    _Array | None,  # h_0 (B, H), None is 0
    _Array,  # y (T, B, H)  out, 0 past a sequence's end
    _Array,  # h_n (B, H)  out
    _Array | None,  # tape (T, B, S, H)  out, S = 4 (1 for an RNN); None without a gradient
]

_BackwardRun: TypeAlias = tuple[
    bool,  # reverse
    _Array,  # W (G*H, I)
    _Array,  # U (G*H, H)
    _Array | None,  # h_0 (B, H)
    _Array,  # y (T, B, H)
    _Array,  # tape (T, B, S, H)  consumed: overwritten with gradients
    _Array | None,  # dy (T, B, H), None is 0
    _Array | None,  # dh_n (B, H), None is 0
    _Array | None,  # dx (T, B, I)  out
    _Array | None,  # dh_0 (B, H)  out
    _Array,  # dW (G*H, I)  added to
    _Array,  # dU (G*H, H)  added to
    _Array | None,  # db_x (G*H,)  added to
    _Array | None,  # db_h (G*H,)  added to
]

__version__: str
MOST_THREADS: int
MOST_SEQUENCES: int  # in one stream

def isa() -> str:
    """Return the instruction set in use: "baseline", "avx2", "avx512" or "neon"."""

def available_isas() -> tuple[str, ...]:
    """Return the instruction sets this CPU supports, the plainest first."""

def use_isa(name: str) -> None:
    """Force an instruction set; ValueError when this CPU does not support it."""

def set_num_threads(n: int) -> None:
    """Use at most ``n`` threads from now on; ValueError unless 1 <= n <= MOST_THREADS."""

def get_num_threads() -> int:
    """Return the number of threads in use."""

def forget_calls() -> None:
    """Let teams work again, whatever calls took so far; for tests."""

def cpus_of_cgroup(root: str) -> int:
    """Return how many CPUs the cgroup grants, rounded up, 0 without a limit; proc is in root."""

def build_info() -> dict[str, str]:
    """Return how the extension was built: compiler and the like."""

def multiply_adds(rounds: int, dtype: str) -> float:
    """Do independent multiply-adds in registers; return how many floating-point operations."""

def read(x: _Array) -> float:
    """Read x (N,) once; return some sum of it."""

def forward(
    cell: str,  # "gru_after", "gru_before", "rnn_tanh" or "rnn_relu"
    x: _Array,  # (T, B, I)
    lengths: npt.NDArray[np.int64] | None,  # (B,) C-contiguous, 0 <= length <= T
    runs: Sequence[_ForwardRun],  # one per direction
    most: int = ...,  # threads, of those that set_num_threads allows
) -> None:
    """Run one layer, in one direction or two."""

def backward(
    cell: str,
    x: _Array,  # (T, B, I)
    lengths: npt.NDArray[np.int64] | None,  # (B,)
    runs: Sequence[_BackwardRun],
    most: int = ...,
) -> None:
    """Back-propagate through one layer, in one direction or two."""

def linear_forward(
    x: _Array,  # (N, K)
    W: _Array,  # (M, K)
    b: _Array | None,  # (M,)
    y: _Array,  # (N, M)  out
) -> None:
    """Compute y = x W^T + b."""

def linear_backward(
    x: _Array,  # (N, K)
    W: _Array,  # (M, K)
    dy: _Array,  # (N, M)
    dx: _Array | None,  # (N, K)  out
    dW: _Array,  # (M, K)  added to, input-major
    db: _Array | None,  # (M,)  added to
) -> None:
    """Compute dx = dy W, dW += dy^T x, db += the sum of dy over n."""

# Arrays (..., K) of the next functions are C-contiguous and of one shape; N is the product of their
# other axes.

def activation(
    name: str,  # "exp", "relu", "sigmoid", "softmax" or "tanh"
    x: _Array,  # (..., K)
    y: _Array,  # (..., K)  out; may be x
) -> None:
    """Compute y = f(x), softmax along the last axis."""

def activation_backward(
    name: str,
    y: _Array,  # (..., K)
    dy: _Array,  # (..., K)
    dx: _Array,  # (..., K)  out; may be dy
) -> None:
    """Compute dx, the gradient of an activation that gave y."""

def cross_entropy(
    y: _Array,  # (..., K)  scores
    classes: npt.NDArray[np.int64],  # (N,)
    weights: _Array,  # (N,)
    dy: _Array,  # (..., K)  out
    sums: _Array,  # (N,)  out
    rests: _Array,  # (N,)  out
) -> bool:
    """Compute dy = weights (softmax(y) - onehot); a row's loss is log(sum) + rest.

    Returns whether all classes are in 0 .. K-1; where one is not, nothing is written.
    """

def layer_norm(
    x: _Array,  # (..., K)
    w: _Array,  # (K,)
    b: _Array,  # (K,)
    eps: float,
    y: _Array,  # (..., K)  out; may be x
    n: _Array | None,  # (..., K)  out; None without a gradient
    scale: _Array | None,  # (N,)  out
) -> None:
    """Compute n = (x - mean(x)) scale, scale = 1 / sqrt(var(x) + eps), and y = w n + b."""

def layer_norm_backward(
    n: _Array,  # (..., K)
    scale: _Array,  # (N,)
    w: _Array,  # (K,)
    dy: _Array,  # (..., K)
    dx: _Array | None,  # (..., K)  out
    dw: _Array,  # (K,)  added to
    db: _Array,  # (K,)  added to
) -> None:
    """Compute dx, dw += the sum of dy n over the rows, db += that of dy."""

def adam(
    p: _Array,  # (N,)  parameters, updated
    g: _Array,  # (N,)  gradients
    m: _Array,  # (N,)  first moments, updated
    v: _Array,  # (N,)  second moments, updated
    rate: float,
    beta_1: float,
    beta_2: float,
    eps: float,
    decay: float,
) -> None:
    """Take a step of Adam, in one pass.

    m = beta_1 m + g;  v = beta_2 v + g^2;  p = decay p - rate m / (sqrt(v) + eps)
    """

def dot(
    a: _Array,  # of any shape and layout
    b: _Array,  # as a
) -> float:
    """Return the sum of a * b, the same bits on every instruction set."""

def residual_loss(
    loss: str,  # "mae", "mse" or "huber"
    y: _Array,  # of any shape and layout
    target: _Array,  # as y
    dy: _Array,  # as y, C-contiguous; out
    scale: float,
    delta: float,  # of Huber's loss
) -> float:
    """Return the sum of the losses of y - target, the same bits on every instruction set.

    Writes their derivatives times scale to dy.
    """

class PackedModel:
    """Weights of a model's layers, packed for the instruction set in use."""

    def __init__(
        self,
        # (cell, W (G*H, I), U (G*H, H), b_x (G*H,) or None, b_h (G*H,) or None),
        # ("linear", W (M, K), b (M,) or None), ("layer_norm", w (K,), b (K,), eps),
        # (activation, K), and as the first ("embedding", W (K, M)) or ("one_hot", K)
        layers: list[tuple[Any, ...]],
    ) -> None: ...

class Stream:
    """The state of one stream and what it needs to run; see pygru.Stream."""

    def __init__(self, model: PackedModel, batch: int) -> None: ...
    def step(self, x: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
    def process(self, block: npt.ArrayLike, out: _Array | None = None) -> _Array: ...
    def _reset(self, sequences: npt.NDArray[np.int64] | None) -> None: ...
    def _states(self) -> list[_Array]: ...
    def _set_states(self, states: list[_Array]) -> None: ...

# SPDX-License-Identifier: MIT
"""Models that end in Softmax or Sigmoid: probabilities, where losses and metrics expect scores."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

from pygru import losses, metrics
from pygru.activations import Sigmoid, Softmax, last_activation

__all__ = ["as_decided", "warn_of_probabilities"]


def as_decided(measured: tuple[metrics.Metric, ...], model: Any) -> tuple[metrics.Metric, ...]:
    """Return metrics whose `accuracy`, by name or itself, says yes from where this model does.

    Examples
    --------
    >>> measured = as_decided(metrics.get("accuracy"), pygru.Sigmoid())
    >>> measured[0].mean([0.2, 0.8], [0.0, 1.0])
    1.0
    """
    if not isinstance(last_activation(model), Sigmoid):
        return measured
    accuracy = partial(metrics.accuracy, threshold=0.5)
    return tuple(m._replace(mean=accuracy) if m.mean is metrics.accuracy else m for m in measured)


def warn_of_probabilities(where: str, model: Any, loss: losses.Loss) -> None:
    """Warn the caller of the caller of a model that gives probabilities to a loss of scores."""
    last = last_activation(model)
    for activation, taken in (
        (Softmax, losses.cross_entropy),
        (Sigmoid, losses.binary_cross_entropy),
    ):
        if loss is taken and isinstance(last, activation):
            warnings.warn(
                f"{where}: loss {taken.__name__} takes scores and applies {activation.__name__} to "
                "them itself: leave it out at the end of the model",
                stacklevel=3,
            )

# SPDX-License-Identifier: MIT
"""What `pygru.torch.accelerate` gives a PyTorch model: the same losses, sooner.

    python benchmarks/accelerate.py

Two copies of a two-layer bidirectional classifier at the forecast shape, one accelerated, are
trained side by side on one thread, a step of each in turn, optimiser included. Prints the largest
difference between the two loss curves and the median over steps of the ratio of times.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
from machine import cpu_name
from shapes import SHAPES
from timing import settle

import pygru

try:
    import torch

    import pygru.torch
except ImportError as error:
    raise SystemExit(f"torch: not installed ({error})") from None


class Classifier(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A GRU in two layers and both directions; the mean over time decides between ten classes."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(inputs, hidden, num_layers=2, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.gru(x)[0].mean(0))


class Training:
    """One model with an optimiser of its own."""

    def __init__(self, model: Any) -> None:
        self.model, self.optimizer = model, torch.optim.Adam(model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def step(self, x: Any, labels: Any) -> None:
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(self.model(x), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(loss.item())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    for name in ("steps", "threads"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    torch.set_num_threads(args.threads)
    pygru.set_num_threads(args.threads)
    shape = SHAPES["forecast"]
    torch.manual_seed(0)
    model = Classifier(shape.I, shape.H)
    theirs, ours = Training(model), Training(pygru.torch.accelerate(copy.deepcopy(model)))
    for k in range(args.steps):
        x, labels = torch.randn(shape.T, shape.B, shape.I), torch.randint(10, (shape.B,))
        for training in (theirs, ours) if k % 2 else (ours, theirs):
            settle()
            training.step(x, labels)
    ratio = np.median(np.array(theirs.seconds) / np.array(ours.seconds))
    apart = np.abs(np.array(theirs.losses) - np.array(ours.losses)).max()
    print(f"torch {torch.__version__}, pygru {pygru.__version__}; {cpu_name()}")
    print(f"{args.steps} steps, {args.threads} thread(s): losses at most {apart:.1e} apart")
    for name, training in (("torch", theirs), ("accelerated", ours)):
        print(f"  {name:11} {1e3 * np.median(training.seconds):6.1f} ms a step")
    print(f"  {ratio:.2f}x")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Forecast next year's sunspots from all the years before, then fifty years from nothing but them.

The series on which forecasting has been compared since Yule (1927) fitted the first autoregression
to it: 1700-1920 to train, 1921-1955 to test, one step ahead with the true past given; the mean
squared error is divided by 1535, the variance of the series that everybody uses.

The years are read as one long sequence with an answer at every step. Counts go in as square roots,
which have much the same spread at the height of a cycle as between two, and the network is small
and trained briefly. Size, rate and epochs were chosen by forecasting 35 years each from 1816, 1851
and 1886 with the years before them; the years after 1920 had no part in it.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt

import pygru
from pygru.examples import BLUE, GREY, ORANGE, add_common, begin, save_model, save_picture
from pygru.optim import AdamW
from pygru.schedules import CosineDecay

__all__ = ["add_arguments", "autoregression", "counts", "run"]

FIRST, TEST, END = 1700, 1921, 1956  # the years of the series, of the test, and after it
ALONE = 50  # years
VARIANCE = 1535.0

PUBLISHED = {
    "threshold autoregression, Tong and Lim (1980)": 0.097,
    "feed-forward network, Weigend et al. (1990)": 0.086,
}

Array = npt.NDArray[np.floating[Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``pygru example sunspots``."""
    add_common(parser, epochs=300, of="of one step each", hidden=16, lr=3e-3)


def run(args: argparse.Namespace) -> None:
    """Train, test beside others, save, let it go on alone, draw."""
    spots = counts()  # (S,)
    plt = begin(args)
    n, end = TEST - FIRST, END - FIRST  # years before the test, and up to its end
    print(f"train: {FIRST}-{TEST - 1}, {n} years   test: {TEST}-{END - 1}, {end - n} years")

    roots = np.sqrt(spots)
    mean, spread = roots[:n].mean(), roots[:n].std()
    x = ((roots - mean) / spread).astype(np.float32)[:, np.newaxis]  # (S, 1)
    rng = np.random.default_rng(args.seed)
    model = pygru.Sequential(
        pygru.GRU(1, args.hidden, batch_first=True, rng=rng), pygru.Linear(args.hidden, 1, rng=rng)
    )
    history = pygru.fit(
        model, x[np.newaxis, : n - 1], x[np.newaxis, 1:n], loss="mse", optimizer=AdamW(args.lr),
        epochs=args.epochs, schedule=CosineDecay(args.epochs), clip_norm=1.0, verbose=30, rng=rng,
    )  # fmt: skip

    def to_counts(y: Array) -> Array:
        roots: Array = np.maximum(y[:, 0] * spread + mean, 0.0)
        return roots**2

    forecast = to_counts(model(x[: end - 1])[n - 1 :])  # (35,)  of each year from all before it
    error = _error(forecast, spots[n:end])
    print(f"normalised squared error, one year ahead: {error:.3f}")
    linear = _error(autoregression(spots[:end], 9, n), spots[n:end])
    for name, value in {"linear autoregression AR(9), fitted here": linear, **PUBLISHED}.items():
        print(f"  {name}: {value:.3f}")
    print(f"training took {history.seconds:.1f} s with {pygru.get_num_threads()} thread(s)")
    save_model(model, args.output / "sunspots.safetensors")
    if plt is None:
        return

    alone = to_counts(model.generate(x[:end], ALONE))  # (50,)
    figure = _draw(plt, spots, forecast, alone, error)
    save_picture(plt, figure, args.output / "sunspots.png")


def counts() -> Array:
    """Return the mean sunspot number of each year from 1700 to 2008, (309,)."""
    try:
        from statsmodels.datasets import sunspots
    except ImportError as error:
        raise ImportError(
            "sunspots needs the series in statsmodels: `pip install statsmodels`"
        ) from error
    return np.asarray(sunspots.load_pandas().data["SUNACTIVITY"], np.float64)


def autoregression(series: Array, order: int, n: int) -> Array:
    """Fit a linear autoregression to the first n values; forecast each later one from its past.

    Examples
    --------
    >>> doubling = 2.0 ** np.arange(8)
    >>> np.round(autoregression(doubling, 1, 5), 6).tolist()
    [32.0, 64.0, 128.0]
    """
    X, Y = pygru.windows(series, order)
    A = np.column_stack((X[:, :, 0], np.ones(len(X))))  # (S - order, order + 1)
    weights = np.linalg.lstsq(A[: n - order], Y[: n - order, 0])[0]
    forecast: Array = A[n - order :] @ weights
    return forecast


def _error(forecast: Array, true: Array) -> float:
    return float(np.mean((forecast - true) ** 2)) / VARIANCE


def _draw(plt: Any, spots: Array, forecast: Array, alone: Array, error: float) -> Any:
    figure, (top, bottom) = plt.subplots(2, figsize=(10, 6.4), layout="tight")
    years = np.arange(FIRST, FIRST + len(spots))
    true = {"color": GREY, "linewidth": 4, "alpha": 0.4, "label": "counted"}
    top.plot(years, spots, **true)
    top.plot(np.arange(TEST, END), forecast, color=BLUE, marker=".", label="forecast")
    title = f"Each year of {TEST}-{END - 1} from all the years before it"
    top.set(title=f"{title} (squared error: {error:.3f} of the variance)")
    top.set_xlim(TEST - 11, END)
    bottom.plot(years, spots, **true)
    ahead = np.arange(END, END + len(alone))
    bottom.plot(ahead, alone, color=ORANGE, label=f"forecast from {END} on")
    bottom.axvspan(TEST - 11, END - 1, color=GREY, alpha=0.15, linewidth=0, label="years it knows")
    bottom.set(title=f"{ALONE} years from nothing but the years up to {END - 1}")
    bottom.set_xlim(TEST - 11, END + ALONE)
    for ax in (top, bottom):
        ax.set(xlabel="year", ylabel="sunspot number")
        ax.set_ylim(bottom=0)
        ax.legend(loc="upper left", frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    return figure

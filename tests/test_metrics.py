# SPDX-License-Identifier: MIT
"""Metrics: right by hand, masked by lengths, the same for every batch size, reported everywhere."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygru
from pygru import metrics
from pygru.history import EpochRecord, History


def test_accuracy_of_classes_and_of_decisions() -> None:
    logits = np.array([[[0.0, 1.0, 2.0], [5.0, 1.0, 2.0]], [[0.0, 3.0, 2.0], [0.0, 1.0, 2.0]]])
    assert metrics.accuracy(logits, [[2, 1], [1, 0]]) == 0.5
    assert metrics.accuracy([[0.3], [-0.2], [2.0]], [[1.0], [1.0], [0.0]]) == pytest.approx(1 / 3)
    assert metrics.accuracy([[-0.2]], [[0.5]]) == 1
    with pytest.raises(ValueError, match=r"target must .* y, \(2, 3\), .* got \(2, 1\)"):
        metrics.accuracy(np.zeros((2, 3)), np.zeros((2, 1)))


def test_accuracy_behind_a_sigmoid_is_that_of_its_scores(rng: np.random.Generator) -> None:
    X = rng.standard_normal((50, 3))
    Y = (X[:, :1] + 0.3 * rng.standard_normal((50, 1)) > 0).astype(float)
    scores = pygru.Linear(3, 1, rng=0)
    model = pygru.Sequential(scores, pygru.Sigmoid())
    expected = pygru.evaluate(scores, X, Y, loss="mse", metrics="accuracy")["accuracy"]
    assert 0 < expected < 1
    for measured in ("accuracy", metrics.accuracy):
        results = pygru.evaluate(model, X, Y, loss="mse", metrics=measured)
        assert results["accuracy"] == expected
    history = pygru.fit(
        model, X, Y, loss="mse", optimizer=pygru.Adam(1e-30), epochs=1, metrics="accuracy",
        validation=(X, Y), verbose=0, batch_size=50,
    )  # fmt: skip
    epoch = history.epochs[0]
    assert epoch.metrics["accuracy"] == epoch.validation_metrics["accuracy"] == expected
    assert metrics.accuracy([0.4, 0.6], [0.0, 0.0], threshold=0.5) == 0.5
    with pytest.raises(TypeError, match=r"^accuracy: threshold must be a number, got 'a'$"):
        metrics.accuracy([0.4], [0.0], threshold="a")  # type: ignore[arg-type]


def test_accuracy_of_a_decoder_that_ends_in_a_sigmoid() -> None:
    encoder = pygru.Sequential(pygru.GRU(2, 4, batch_first=True, rng=0))
    decoder = [pygru.GRU(1, 4, batch_first=True, rng=1), pygru.Linear(4, 1, rng=2)]
    X, Y = np.ones((3, 5, 2)), np.ones((3, 4, 1))
    model = pygru.EncoderDecoder(encoder, pygru.Sequential(*decoder, pygru.Sigmoid()), start=[0.0])
    with pytest.warns(UserWarning, match="^evaluate: loss binary_cross_entropy takes scores"):
        result = pygru.evaluate(model, X, Y, loss="binary_cross_entropy", metrics="accuracy")
    y, _ = model.forward(X, Y)
    assert result["accuracy"] == (y > 0.5).mean()


def test_accuracy_does_not_guess() -> None:
    with pytest.raises(ValueError, match=r"two classes .* \(2, 1\); .* give target the shape of y"):
        metrics.accuracy([[1.0], [-1.0]], [1, 0])
    with pytest.raises(TypeError, match="accuracy: y must hold real numbers, got dtype <U"):
        metrics.accuracy([["a", "b"]], [0])
    with pytest.raises(TypeError, match="accuracy: target must hold real numbers, got dtype <U"):
        metrics.accuracy([[1.0, 2.0]], ["b"])
    with pytest.raises(ValueError, match="accuracy: y must be one array, got nested sequences"):
        metrics.accuracy([[1.0], [1.0, 2.0]], [0, 1])
    with pytest.raises(ValueError, match="accuracy: target must be one array, got nested"):
        metrics.accuracy([[1.0, 2.0]], [[1.0], [1.0, 2.0]])
    with pytest.raises(ValueError, match="accuracy: threshold must be a number, got nan"):
        metrics.accuracy([1.0], [1], threshold=np.nan)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_what_does_not_fit_a_metric_is_told_in_its_name(name: str) -> None:
    metric, y = metrics.METRICS[name], np.zeros((2, 3))
    with pytest.raises(ValueError, match=f"^{name}: target must have the shape of y"):
        metric(y, np.zeros((2, 4)))
    with pytest.raises(ValueError, match=f"^{name}: lengths must satisfy"):
        metric(y, y, [1, 2, 3])


def test_a_score_that_is_nan_is_never_right() -> None:
    nan = float("nan")
    assert metrics.accuracy([[nan, 1.0], [nan, 1.0], [0.0, 1.0]], [0, 1, 1]) == pytest.approx(1 / 3)
    assert metrics.accuracy([[nan], [nan], [-1.0]], [[0.0], [1.0], [0.0]]) == pytest.approx(1 / 3)
    logits = [[[0.0, 1.0], [nan, nan]]]  # past the end it does not matter
    assert metrics.accuracy(logits, [[1, 0]], [1], batch_first=True) == 1


def test_padding_does_not_count() -> None:
    rng = np.random.default_rng(0)
    y, target, lengths = rng.random((4, 5, 3)), rng.integers(0, 3, (4, 5)), [5, 1, 0, 3]
    valid = np.arange(5) < np.array(lengths)[:, None]
    expected = metrics.accuracy(y[valid], target[valid])
    target[~valid] = 99
    assert metrics.accuracy(y, target, lengths, batch_first=True) == pytest.approx(expected)
    reals = rng.random((4, 5, 3))
    for name in ("mae", "rmse"):
        metric = metrics.METRICS[name]
        value = metric(y, reals, lengths, batch_first=True)
        assert value == pytest.approx(metric(y[valid], reals[valid]))


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
def test_the_batch_size_does_not_matter(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((23, 2)), rng.standard_normal((23, 1))
    model = pygru.Linear(2, 1, dtype=np.float64, rng=0)
    found = pygru.evaluate(
        model, X, Y, loss="mse", metrics=["mae", metrics.rmse], batch_size=batch_size
    )
    error = model(X) - Y
    assert found == pytest.approx(
        {"loss": np.mean(error**2), "mae": np.abs(error).mean(), "rmse": np.mean(error**2) ** 0.5}
    )
    history = pygru.fit(
        model, X, Y, loss="mse", optimizer=pygru.optim.SGD(0.0), epochs=2, metrics=("rmse", "mae"),
        batch_size=batch_size, validation=(X[:7], Y[:7]), verbose=0, rng=0,
    )  # fmt: skip
    assert history["rmse"] == pytest.approx([found["rmse"]] * 2)
    assert history["validation_mae"] == pytest.approx([np.abs(error[:7]).mean()] * 2)


def test_callables_are_metrics_and_may_see_lengths() -> None:
    seen: list[Any] = []

    def worst(y: Any, target: Any, lengths: Any = None, batch_first: bool = False) -> float:
        seen.append((lengths is None, batch_first))
        return float(np.abs(y - target).max())

    model = pygru.Sequential(pygru.GRU(1, 1, batch_first=True))
    X = np.zeros((3, 4, 1))
    found = pygru.evaluate(model, X, X, loss="mae", metrics=[worst], lengths=[1, 2, 4])
    assert set(found) == {"loss", "worst"}
    assert seen == [(False, True)]
    assert metrics.get(partial(worst, batch_first=True))[0].name == "worst"


def test_metrics_are_in_the_table_the_picture_and_the_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.random.default_rng(0).standard_normal((20, 1))
    history = pygru.fit(
        pygru.Linear(1, 1, rng=0), X, X, loss="mse", optimizer=pygru.Adam(0.01), epochs=2,
        metrics="mae", validation=(X, X), rng=0,
    )  # fmt: skip
    line, last = capsys.readouterr().out.splitlines()
    assert [word for word in line.split() if word.isidentifier()] == [
        "epoch", "loss", "validation", "mae", "validation_mae", "s", "s", "left",
    ]  # fmt: skip
    assert "steps/s" in line
    assert "left" not in last
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["validation_mae"]) for row in rows] == history["validation_mae"]
    assert [*rows[0]][-2:] == ["mae", "validation_mae"]
    with pytest.raises(ValueError, match=r"of must be one of .*'mae', .* got 'accuracy'"):
        history.plot(of="accuracy")
    plt = pytest.importorskip("matplotlib.pyplot")
    ax = history.plot(of="mae")
    assert ax.get_ylabel() == "mae"
    assert len(ax.lines) == 2
    for of, label in (("validation", "validation"), ("validation_mae", "validation"), ("lr", "t")):
        (line,) = history.plot(of=of).lines
        assert line.get_label().startswith(label)
    plt.close("all")


def test_epochs_with_other_metrics_still_make_a_table(tmp_path: Path) -> None:
    first = EpochRecord(1, 0.5, None, 1e-3, 9, 0.25)
    assert (first.monitored, first._replace(validation=0.0).monitored) == (0.5, 0.0)
    history = History([first, EpochRecord(2, 0.25, None, 1e-3, 9, 0.25, {"mae": 0.75})])
    assert history["mae"] == [None, 0.75]
    with pytest.raises(KeyError, match=r"name must be one of .*'mae'.*, got 'rmse'"):
        history["rmse"]
    with pytest.raises(ValueError, match=r"of must be one of .*'mae'\], got 'validation'"):
        history.plot(of="validation")
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        assert [row["mae"] for row in csv.DictReader(file)] == ["", "0.75"]
    history.epochs.clear()
    assert history["loss"] == []


@pytest.mark.parametrize("answer", [None, {}, "0.5", np.zeros((2, 1)), np.zeros(1)])
def test_a_metric_that_gives_no_number_is_named(answer: Any) -> None:
    def own(_y: Any, _target: Any) -> Any:
        return answer

    model, x = pygru.Linear(1, 1), np.zeros((2, 1))
    finished = metrics.Metric("own", metrics.mae, lambda _: answer)
    for metric in (own, finished):
        with pytest.raises(TypeError, match="metric own: value must be one real number, got "):
            pygru.evaluate(model, x, x, loss="mse", metrics=metric)


def test_what_is_no_metric_is_named() -> None:
    assert metrics.get(()) == ()
    with pytest.raises(ValueError, match="must be one of accuracy, mae, rmse, got 'acuracy'"):
        metrics.get(["mae", "acuracy"])
    with pytest.raises(TypeError, match="must be a name, a callable or a Metric, got int"):
        metrics.get([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="a callable or an iterable of these, got dict"):
        metrics.get({"mae": metrics.rmse})
    for metric, message in (
        (metrics.Metric(3, metrics.mae, float), "name of a Metric must be a str, got 3"),  # type: ignore[arg-type]
        (metrics.Metric("own", 3, float), "mean of Metric own must be callable, got 3"),  # type: ignore[arg-type]
        (metrics.Metric("own", metrics.mae, None), "finish of Metric own .* got None"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match=message):
            metrics.get(metric)
    with pytest.raises(ValueError, match=r"different names, got \['mae', 'mae'\]"):
        metrics.get(["mae", metrics.mae])
    for name in ("loss", "lr", "validation_mae"):
        metric = type(name, (), {"__call__": lambda *_: 0.0})()
        with pytest.raises(ValueError, match=rf"other names than the columns .* got '{name}'"):
            metrics.get(["mae", metric])


def test_a_metric_with_a_finish_is_taken_as_it_is() -> None:
    doubled = metrics.Metric("doubled", metrics.mae, lambda mean: 2 * mean)
    X, model = np.ones((5, 1)), pygru.Linear(1, 1, init="zeros")
    scores = pygru.evaluate(model, X, 3 * X, loss="mse", metrics=["mae", doubled], batch_size=2)
    assert (scores["mae"], scores["doubled"]) == (3.0, 6.0)

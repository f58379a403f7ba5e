# SPDX-License-Identifier: MIT
"""What a training shows while it runs and keeps of itself: lines, a bar, a table, a picture."""

from __future__ import annotations

import copy
import csv
import io
import pickle
from pathlib import Path

import pytest
from affine import Affine, fit, make_data

from pygru.history import EpochRecord, History
from pygru.progress import Progress

X_GOOD, Y_GOOD = make_data(20)


def test_lines_are_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    fit(Affine(), X_GOOD, Y_GOOD, epochs=12, verbose=5, validation=(X_GOOD, Y_GOOD))
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [line.split("  loss")[0] for line in lines] == [
        "epoch  5/12",
        "epoch 10/12",
        "epoch 12/12",
    ]
    assert "validation" in lines[0]
    assert output.err == ""
    fit(Affine(), X_GOOD, Y_GOOD, epochs=2, verbose=1)
    assert len(capsys.readouterr().out.splitlines()) == 2
    fit(Affine(), X_GOOD, Y_GOOD, epochs=2, verbose=0)
    assert capsys.readouterr().out == ""


def test_columns_have_the_names_of_the_history_and_stay_where_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress, metrics = Progress(epochs=3, verbose=1), {"mae": 0.5}
    for epoch, loss, seconds in ((1, 12345.0, 0.05), (2, 0.25, 0.5), (3, 2e-5, 2.0)):
        progress.end_epoch(EpochRecord(epoch, loss, 0.5, 1e-3, 90, seconds, metrics, metrics))
    lines = capsys.readouterr().out.splitlines()
    names = ["epoch", "loss", "validation", "mae", "validation_mae"]
    words = [*(f"{name} " for name in names), " s  ", " steps/s"]
    for line in lines:
        assert [word for word in line.split() if word in names] == names
        assert [line.index(word) for word in words] == [lines[0].index(word) for word in words]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    fit(Affine(), X_GOOD, Y_GOOD, epochs=3, verbose=1)
    assert "epoch 3/3" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()


def test_the_bar_shows_the_loss_of_an_epoch_that_is_not_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress(epochs=3, verbose=1)
    assert progress.start_epoch(1, 100) is not None
    progress.show(0.125)
    progress.close()
    assert "epoch 1/3:   0%" in terminal.getvalue()
    assert "0/300" in terminal.getvalue()
    assert "loss 0.1250" in terminal.getvalue()


def test_history_as_a_table(tmp_path: Path) -> None:
    history = fit(Affine(), X_GOOD, Y_GOOD, validation=(X_GOOD, Y_GOOD))
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history.loss
    assert [float(row["validation"]) for row in rows] == history.validation
    assert history.seconds == pytest.approx(sum(float(row["seconds"]) for row in rows))


def test_a_history_by_hand_is_copied_and_pickled_and_says_how_long_it_is() -> None:
    history = History([EpochRecord(1, 0.5, None, 1e-3, 9, 0.25)])
    for again in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert again.epochs == history.epochs
        assert repr(again) == "History(1 epoch in 0.25 s, best 0.5 in epoch 1)"
    history.epochs.append(EpochRecord(2, 0.75, None, 1e-3, 9, 0.25, {"mae": 0.5}))
    assert pickle.loads(pickle.dumps(history)).epochs == history.epochs
    assert repr(history) == "History(2 epochs in 0.5 s, best 0.5 in epoch 1)"


def test_history_as_a_picture() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot as plt

    history = fit(Affine(), X_GOOD, Y_GOOD, validation=(X_GOOD, Y_GOOD))
    ax = history.plot()
    assert all(tick == round(tick) for tick in ax.get_xticks())
    assert [line.get_label() for line in ax.lines] == ["training", "validation"]
    history.epochs[1:] = []
    assert [line.get_marker() for line in history.plot().lines] == ["o", "o"]  # no line of a point
    _, own = plt.subplots()
    assert history.plot(own) is own
    for wrong, got in (("loss.png", "str"), (plt, "module")):
        with pytest.raises(TypeError, match=f"^History.plot: ax must be a .* Axes, got {got}; to"):
            history.plot(wrong)
    plt.close("all")

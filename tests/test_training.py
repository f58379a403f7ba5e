# SPDX-License-Identifier: MIT
"""The training loop, on a model small enough to follow by hand."""

from __future__ import annotations

import threading
from typing import Any

import affine
import numpy as np
import pytest
from affine import Affine, fit, make_data
from tolerances import TOLERANCES, assert_close

import pygru
from pygru import data, evaluation, losses, optim, schedules
from pygru.history import EpochRecord


def test_training_finds_the_line() -> None:
    model = Affine()
    X, Y = make_data()
    history = fit(model, X, Y, epochs=50, validation=(X, Y))
    assert_close(model.flat_params, [3.0, 0.5], "convergence")
    squared = TOLERANCES["convergence"]["float64"] ** 2
    assert history.loss[-1] < squared < history.loss[0]
    assert history.validation[-1] < squared
    assert [record.epoch for record in history.epochs] == list(range(1, 51))
    assert history.epochs[0].steps == 10


def test_a_step_is_forward_loss_backward_clip_update() -> None:
    model, X, Y = Affine(), *make_data(10)
    fit(model, X, Y, epochs=1, clip_norm=0.5, optimizer=optim.SGD(1.0))
    dy = 2 * (0 - Y) / 10
    gradient = np.array([(X * dy).sum(), dy.sum()])
    assert_close(model.flat_params, -0.5 * gradient / np.linalg.norm(gradient), "rounding")

    model = Affine()
    fit(model, X, Y, epochs=1, clip_value=0.1, optimizer=optim.SGD(1.0))
    clipped = np.clip(gradient, -0.1, 0.1)
    assert_close(model.flat_params, -clipped, "rounding")

    model = Affine()
    fit(model, X, Y, epochs=1, clip_value=0.1, clip_norm=0.05, optimizer=optim.SGD(1.0))
    assert_close(model.flat_params, -0.05 * clipped / np.linalg.norm(clipped), "rounding")


def test_the_gradient_hook_sees_all_gradients_before_they_are_clipped() -> None:
    model, X, Y = Affine(), *make_data(10)
    dy = 2 * (0 - Y) / 10
    gradient = np.array([(X * dy).sum(), dy.sum()])
    seen: list[Any] = []

    def hook(flat_grads: Any) -> None:
        seen.append(flat_grads.copy())
        flat_grads[0] = 0

    fit(model, X, Y, epochs=1, clip_norm=0.5, optimizer=optim.SGD(1.0), on_gradient=hook)
    assert_close(seen[0], gradient, "rounding")
    assert_close(model.flat_params, [0, -0.5 * np.sign(gradient[1])], "rounding")


def test_two_workers_that_average_their_gradients_train_as_one_does() -> None:
    X, Y = make_data(40, inputs=2)
    whole, halves = Affine(2), [Affine(2), Affine(2)]
    in_order = data.ContiguousBatches(choices=1)
    fit(whole, X[:20], Y[:20], batch_size=20, sampler=in_order, epochs=3)
    meeting, mean = threading.Barrier(2), np.zeros((2, 3))

    def work(rank: int) -> None:
        def average(flat_grads: Any) -> None:
            mean[rank] = flat_grads
            meeting.wait()
            flat_grads[:] = mean.mean(axis=0)
            meeting.wait()

        part = slice(10 * rank, 10 * rank + 10)
        fit(halves[rank], X[part], Y[part], sampler=in_order, epochs=3, on_gradient=average)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(halves[0].flat_params, halves[1].flat_params)
    assert_close(halves[0].flat_params, whole.flat_params, "rounding")


def test_the_same_seed_gives_the_same_bits() -> None:
    models = [Affine(), Affine(), Affine()]
    histories = [fit(m, *make_data(), rng=seed) for m, seed in zip(models, (1, 1, 2), strict=True)]
    assert np.array_equal(models[0].flat_params, models[1].flat_params)
    assert histories[0].loss == histories[1].loss != histories[2].loss


def test_lengths_reach_the_model_and_the_loss() -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 7, 2))
    Y = 3 * X.sum(axis=2, keepdims=True) + 0.5
    lengths = rng.integers(1, 8, 20)
    Y[np.arange(7) >= lengths[:, None]] = 1e6  # past the end nobody looks
    model = Affine(2)
    order = data.ContiguousBatches(choices=2)
    history = fit(
        model, X, Y, lengths=lengths, epochs=60, sampler=order, validation=(X, Y, lengths)
    )
    assert_close(model.flat_params, [3.0, 3.0, 0.5], "convergence")
    assert history.validation[-1] < TOLERANCES["convergence"]["float64"] ** 2
    x, ends = model.seen[0]
    assert len(x) == len(ends) == 10


def test_losses_are_means_over_samples_whatever_the_batch_size() -> None:
    model, X, Y = Affine(), *make_data(23)
    expected, _ = losses.mse(model(X), Y)
    for batch_size in (1, 7, 23, 100):
        value = evaluation.evaluate(model, X, Y, loss="mse", batch_size=batch_size)
        assert value == pytest.approx(expected)
    # With a learning rate of 0 the training loss is the same mean.
    for batch_size in (1, 7, 23, 100):
        history = fit(model, X, Y, optimizer=optim.SGD(0.0), batch_size=batch_size)
        assert history.loss == pytest.approx([expected] * 3)

    X, Y = np.zeros((3, 4, 1)), np.ones((3, 4, 1))
    Y[0] = 2
    value = evaluation.evaluate(model, X, Y, loss="mse", lengths=[1, 4, 3], batch_size=2)
    assert value == pytest.approx((4 + 4 + 3) / 8)


@pytest.mark.parametrize("n", [0, 1, 23])
def test_predict_gives_every_sample_in_order(n: int) -> None:
    model = Affine(2)
    model.flat_params[:] = [1, 2, 3]
    X = np.random.default_rng(0).standard_normal((n, 2))
    assert_close(evaluation.predict(model, X, batch_size=7), model(X), "rounding")


def test_predict_of_a_recurrent_layer_is_its_output() -> None:
    class Recurrent(Affine):
        def __call__(self, x: Any, *, lengths: Any = None) -> Any:
            return super().__call__(x, lengths=lengths), "h_n"

        def forward(self, x: Any, *, lengths: Any = None) -> Any:
            return *self(x, lengths=lengths), x

    X, Y = make_data()
    model = Recurrent()
    fit(model, X, Y, epochs=50)
    assert_close(evaluation.predict(model, X), Y, "convergence")


def test_lengths_are_not_those_of_an_output_without_time() -> None:
    class Mean(Affine):
        def __call__(self, x: Any, *, lengths: Any = None) -> Any:
            return super().__call__(x.mean(axis=1), lengths=lengths)

        def forward(self, x: Any, *, lengths: Any = None) -> Any:
            return self(x, lengths=lengths), x.mean(axis=1)

    X, Y, lengths = np.ones((4, 3, 2)), np.full((4, 1), 2.0), [1, 2, 3, 3]
    assert evaluation.evaluate(Mean(2), X, Y, loss="mse", lengths=lengths) == 4
    assert fit(Mean(2), X, Y, lengths=lengths).loss[0] == 4
    listed = [x[:n] for x, n in zip(X, lengths, strict=True)]
    assert evaluation.predict(Mean(2), listed).shape == (4, 1)


def test_real_numbers_get_the_models_dtype_and_integers_stay() -> None:
    model = Affine(dtype=np.float32)
    fit(model, *make_data(), epochs=1)
    assert model.seen[0][0].dtype == np.float32
    fit(model, np.ones((10, 1), np.int64), np.ones((10, 1)), epochs=1)
    assert model.seen[-1][0].dtype == np.int64


def test_a_schedule_sets_the_rate_of_each_step_and_the_optimiser_gets_its_own_back() -> None:
    rates: list[float] = []

    class Watched(optim.SGD):
        def step(self, flat_params: Any, flat_grads: Any) -> None:
            rates.append(self.lr)
            super().step(flat_params, flat_grads)

    optimizer = Watched(0.5)
    schedule = schedules.WarmUp(1, then=schedules.StepDecay(every=1, factor=0.1))
    history = fit(Affine(), *make_data(20), epochs=3, optimizer=optimizer, schedule=schedule)
    assert rates == pytest.approx([0, 0.25, 0.5, 0.5, 0.05, 0.05])
    assert [record.lr for record in history.epochs] == pytest.approx([0.25, 0.5, 0.05])
    assert optimizer.lr == 0.5


def test_a_second_fit_with_the_same_optimiser_goes_on() -> None:
    order = data.ContiguousBatches(choices=1)
    once, twice = Affine(), Affine()
    fit(once, *make_data(), epochs=4, optimizer=optim.Adam(0.1), sampler=order)
    optimizer = optim.Adam(0.1)
    for _ in range(2):
        fit(twice, *make_data(), epochs=2, optimizer=optimizer, sampler=order)
    assert np.array_equal(once.flat_params, twice.flat_params)


def test_an_optimiser_that_goes_on_with_another_model_is_warned_of() -> None:
    optimizer = optim.Adam(0.1)
    kept, options = Affine(), {"optimizer": optimizer, "epochs": 1}
    fit(kept, *make_data(), **options)
    with pytest.raises(TypeError):
        fit(Affine(), *make_data(), **options, checkpoint="c")  # not savable: trains nothing
    fit(kept, *make_data(), **options)
    told = "fit: optimizer goes on after 20 steps on another model, .* a new Adam for each model"
    with pytest.warns(UserWarning, match=told) as caught:
        fit(Affine(), *make_data(), **options)
    assert caught[0].filename == affine.__file__  # which calls fit
    optimizer.load_state_dict(optim.Adam(0.1).state_dict())  # as a new one
    fit(Affine(), *make_data(), **options)


def test_callbacks_see_each_epoch_and_can_end_the_training() -> None:
    seen: list[Any] = []

    def stop_at_two(record: EpochRecord, model: Any) -> bool:
        seen.append((record.epoch, type(model)))
        return record.epoch == 2

    history = fit(Affine(), *make_data(), epochs=9, callbacks=[stop_at_two, stop_at_two])
    assert seen == [(1, Affine)] * 2 + [(2, Affine)] * 2
    assert len(history.epochs) == 2
    assert not history.interrupted


@pytest.mark.parametrize("answer", [1, "yes", [True], np.ones(3), np.zeros(1, bool)])
def test_only_true_ends_the_training(answer: Any) -> None:
    assert len(fit(Affine(), *make_data(), callbacks=lambda *_: answer).epochs) == 3
    assert len(fit(Affine(), *make_data(), callbacks=lambda *_: np.True_).epochs) == 1


def test_ctrl_c_keeps_the_best_epoch_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    kept: list[Any] = []

    def interrupt(record: EpochRecord, model: Any) -> None:
        kept.append(model.flat_params.copy())
        if record.epoch == 2:
            model.flat_params += 1  # what follows is worse
        if record.epoch == 3:
            raise KeyboardInterrupt

    model = Affine()
    optimizer = optim.SGD(0.01)
    history = fit(
        model, *make_data(), optimizer=optimizer, epochs=9, verbose=1, callbacks=[interrupt]
    )
    assert history.interrupted
    assert len(history.epochs) == 3
    assert history.best is not None
    assert np.array_equal(model.flat_params, kept[history.best.epoch - 1])
    assert "interrupted: the model keeps the parameters of epoch" in capsys.readouterr().out


def test_ctrl_c_in_the_middle_of_an_update_leaves_whole_parameters() -> None:
    class Interrupted(optim.SGD):
        def step(self, flat_params: Any, flat_grads: Any) -> None:
            super().step(flat_params, flat_grads)
            if self.steps == 3:
                flat_params[0] = np.nan
                raise KeyboardInterrupt

    model, reference = Affine(), Affine()
    history = fit(model, *make_data(), optimizer=Interrupted(0.1))
    assert history.interrupted
    assert history.epochs == []
    two_steps = data.ShuffledBatches()
    fit(reference, *make_data(), epochs=1, sampler=lambda *a: list(two_steps(*a))[:2])
    assert np.array_equal(model.flat_params, reference.flat_params)


X_GOOD, Y_GOOD = make_data(20)
X_NAN, Y_INF = X_GOOD.copy(), Y_GOOD.copy()
X_NAN[3, 0], Y_INF[7, 0] = np.nan, -np.inf


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"X": X_NAN}, ValueError, r"fit: X must be finite, got nan at index \(3, 0\)"),
        ({"Y": Y_INF}, ValueError, r"fit: Y must be finite, got -inf at index \(7, 0\)"),
        ({"validation": (X_NAN, Y_GOOD)}, ValueError, r"fit: validation X must be finite"),
        ({"validation": (X_GOOD,)}, ValueError, r"validation must be \(X, Y\) or .* got 1 items"),
        ({"Y": Y_GOOD[:9]}, ValueError, r"Y must have as many samples as X, 20, got shape \(9, 1"),
        ({"Y": Y_GOOD[:, 0]}, ValueError, r"fit: Y must .* mse: target .* \(1, 1\), got \(1,\)"),
        ({"X": X_GOOD[:0], "Y": Y_GOOD[:0]}, ValueError, r"X must hold at least one sample"),
        ({"X": X_GOOD[:, 0]}, ValueError, r"X must have shape \(N, \.\.\.\) .* got \(20,\)"),
        ({"X": []}, ValueError, "fit: X must hold at least one sample, got none"),
        ({"X": [[1.0], [1.0, 2.0]]}, ValueError, r"sequences of real .* \(T, I\), got shape \(1,"),
        ({"X": X_GOOD.astype(complex)}, TypeError, "X must hold real numbers, got dtype complex"),
        ({"Y": np.full((20, 1), None)}, TypeError, "Y must hold real numbers, got dtype object"),
        ({"X": np.full(20, None)}, TypeError, "X must hold real numbers, got dtype object"),
        ({"lengths": [1, 2]}, ValueError, r"fit: lengths must have shape \(B,\) = \(20,\)"),
        ({"lengths": [2] * 20}, ValueError, "fit: lengths must satisfy .* T = 1, got 2"),
        ({"epochs": 0}, ValueError, "fit: epochs must be an integer >= 1, got 0"),
        ({"batch_size": -1}, ValueError, "fit: batch_size must be an integer >= 1, got -1"),
        ({"clip_norm": 0}, ValueError, "fit: clip_norm must be above 0, got 0"),
        ({"clip_value": np.nan}, ValueError, "fit: clip_value must be above 0, got nan"),
        ({"loss": "mean"}, ValueError, "loss must be one of mae"),
        ({"optimizer": "adam"}, TypeError, "fit: optimizer must be an Optimizer .*, got 'adam'"),
        ({"optimizer": optim.Adam}, TypeError, "fit: optimizer must be .* got <class .*Adam'>"),
        ({"schedule": lambda _: 1.0}, TypeError, r"fit: schedule must be .*\(10\), got <func"),
        ({"schedule": schedules.Constant}, TypeError, "fit: schedule must be .* got <class"),
        ({"sampler": 3}, TypeError, "fit: sampler must be a callable or None, got 3"),
        ({"on_gradient": 3}, TypeError, "fit: on_gradient must be a callable or None, got 3"),
        ({"clip_norm": "x"}, TypeError, "fit: clip_norm must be a number above 0, got 'x'"),
        ({"clip_value": True}, TypeError, "fit: clip_value must be a number above 0, got True"),
        ({"validation": 0.1}, TypeError, r"fit: validation must be \(X, Y\) or .* got float"),
        ({"callbacks": 3}, TypeError, "fit: callbacks must be a callable or .* got 3"),
        ({"callbacks": "print"}, TypeError, "fit: callbacks must be a callable or .* got 'print'"),
        ({"callbacks": [print, 3]}, TypeError, r"fit: callbacks\[1\] must be a callable, got 3"),
        ({"metrics": 3}, TypeError, "metrics must be a name, a callable or .* got int"),
        ({"rng": -1}, ValueError, "fit: rng must be an int of at least 0, got -1"),
        ({"verbose": "yes"}, TypeError, "fit: verbose must be an integer >= 0, got 'yes'"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_changed(
    changes: dict[str, Any], error: Any, message: str
) -> None:
    model = Affine()
    arguments = {"X": X_GOOD, "Y": Y_GOOD} | changes
    with pytest.raises(error, match=message):
        fit(model, **arguments)
    assert not model.flat_params.any()


@pytest.mark.parametrize(
    "model, got",
    [(None, "NoneType without __call__"), (Affine, "the class Affine"), (len, "without dtype")],
)
def test_what_is_no_model_is_refused(model: Any, got: str) -> None:
    for call in (
        lambda: fit(model, X_GOOD, Y_GOOD),
        lambda: evaluation.predict(model, X_GOOD),
        lambda: evaluation.evaluate(model, X_GOOD, Y_GOOD, loss="mse"),
    ):
        with pytest.raises(TypeError, match=f"model must be a Module, got .*{got}"):
            call()


def test_a_model_with_time_first_is_refused() -> None:
    model = Affine()
    model.batch_first = False
    for call in (
        lambda: fit(model, X_GOOD, Y_GOOD),
        lambda: evaluation.predict(model, X_GOOD),
        lambda: evaluation.evaluate(model, X_GOOD, Y_GOOD, loss="mse"),
    ):
        with pytest.raises(ValueError, match="model must have batch_first=True"):
            call()


@pytest.mark.parametrize(
    "activation, loss, Y",
    [
        (pygru.Softmax, "cross_entropy", np.zeros(20, int)),
        (pygru.Sigmoid, "binary_cross_entropy", np.zeros((20, 2))),
    ],
)
def test_probabilities_for_a_loss_that_takes_scores_are_warned_of(
    activation: Any, loss: str, Y: Any
) -> None:
    model = pygru.Sequential(pygru.Linear(3, 2, rng=0), pygru.Sequential(activation()))
    with pytest.warns(
        UserWarning, match=f"^fit: loss {loss} takes scores and applies {activation.__name__}"
    ):
        pygru.fit(
            model, np.ones((20, 3)), Y, loss=loss, optimizer=pygru.Adam(), epochs=1, verbose=0
        )
    with pytest.warns(UserWarning, match=f"^evaluate: loss {loss} takes scores") as told:
        pygru.evaluate(model, np.ones((20, 3)), Y, loss=loss)
    assert told[0].filename == __file__


@pytest.mark.parametrize("call", [
    lambda cls: pygru.fit(cls, [[1.0]], [[1.0]], loss="mse", optimizer=pygru.Adam(), epochs=1),
    lambda cls: pygru.predict(cls, [[1.0]]),
    pygru.Stream,
])  # fmt: skip
def test_a_class_in_place_of_a_model_is_named(call: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a .*, got the class GRU$"):
        call(pygru.GRU)

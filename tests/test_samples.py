# SPDX-License-Identifier: MIT
"""What `fit`, `predict` and `evaluate` refuse because a model would take it for something else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from affine import Affine, fit
from model_problems import BATCHED, PER_STEP, X_LIST, X_STEPS
from tolerances import assert_close

import pygru
from pygru import evaluation, samples


def last_of(*modules: Any) -> Any:
    """Return a model that gives one number of what the modules give."""
    return pygru.Sequential(*modules, pygru.Linear(3, 1, rng=0))


@pytest.mark.parametrize(
    "model, X, expected",
    [
        (last_of(pygru.GRU(2, 3, **BATCHED)), np.zeros((6, 2)), "(N, T, I)"),
        (pygru.RNN(2, 1, **BATCHED), np.zeros((6, 2)), "(N, T, I)"),
        (last_of(pygru.Linear(2, 3), pygru.LastStep(batch_first=True)), np.zeros((6, 2)), "(N, T"),
        (last_of(pygru.GRU(2, 3, **BATCHED)), np.zeros((6, 4, 2, 2)), "(N, T, I)"),
        (
            last_of(pygru.Embedding(4, 2), pygru.GRU(2, 3, **BATCHED)),
            np.zeros((6, 4, 2), int),
            "(N, T)",
        ),
        (
            last_of(pygru.Linear(2, 3), pygru.RepeatVector(4), pygru.GRU(3, 3, **BATCHED)),
            np.zeros((6, 4, 2)),
            "(N, I) for a model that reads single vectors",
        ),
        (last_of(pygru.GRU(2, 3, **BATCHED)), np.zeros((6, 4, 5)), "(N, T, I) with I = 2"),
    ],
)
def test_an_axis_that_is_missing_is_never_taken_from_another(
    model: Any, X: Any, expected: str
) -> None:
    before, Y = model.flat_params.copy(), np.zeros((len(X), 1))
    for name, call in (
        ("fit", lambda: fit(model, X, Y)),
        ("predict", lambda: evaluation.predict(model, X)),
        ("evaluate", lambda: evaluation.evaluate(model, X, Y, loss="mse")),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        assert f"{name}: X must have shape {expected}" in str(caught.value)
        assert str(caught.value).endswith(f"got {np.shape(X)}")
    assert np.array_equal(model.flat_params, before)


@pytest.mark.parametrize(
    "build, X",
    [
        (
            lambda **layout: last_of(pygru.Embedding(4, 3, rng=0), pygru.MeanOverTime(**layout)),
            np.arange(24).reshape(6, 4) % 4,
        ),
        (
            lambda **layout: last_of(pygru.Linear(2, 3, rng=0), pygru.RepeatVector(4, **layout)),
            np.linspace(0, 1, 12).reshape(6, 2),
        ),
    ],
)
def test_without_a_recurrent_layer_somebody_has_to_say_where_time_is(build: Any, X: Any) -> None:
    model = build()
    message = r"model must have batch_first=True, .* got None: .* LastStep\(batch_first=True\)"
    with pytest.raises(ValueError, match=f"predict: {message}"):
        evaluation.predict(model, X)
    model = build(batch_first=True)
    Y = evaluation.predict(model, X, batch_size=4)
    assert_close(Y, np.stack([model(x) for x in X]), "reference")
    fit(model, X, Y, epochs=1, batch_size=3)


@pytest.mark.parametrize(
    "first, X, uneven",
    [
        (pygru.Linear(2, 3, rng=0), np.zeros((6, 2)), [[1], [1, 2]]),
        (pygru.Embedding(4, 3, rng=0), np.zeros(6, int), [[1], [1, 2]]),
    ],
)
def test_a_model_that_reads_vectors_has_no_use_for_lengths(first: Any, X: Any, uneven: Any) -> None:
    model = pygru.Sequential(first, pygru.RepeatVector(4), pygru.GRU(3, 3, **BATCHED))
    Y, before = np.zeros((6, 4, 3)), model.flat_params.copy()
    message = "lengths must be None for a model that reads single vectors"
    with pytest.raises(ValueError, match=f"predict: {message}"):
        evaluation.predict(model, X, lengths=[1] * 6)
    with pytest.raises(ValueError, match=f"fit: {message}"):
        fit(model, X, Y, lengths=[1] * 6)
    with pytest.raises(ValueError, match=f"fit: validation {message}"):
        fit(model, X, Y, validation=(X, Y, [1] * 6))
    with pytest.raises(ValueError, match="fit: bptt must be None for a model that reads single"):
        fit(model, X, Y, bptt=2)
    with pytest.raises(ValueError, match=r"X must be a rectangular .* single vectors, got seq"):
        evaluation.predict(model, uneven)
    assert np.array_equal(model.flat_params, before)
    assert fit(model, X, Y, epochs=1).loss


def test_a_shape_of_one_axis_is_told_as_a_tuple() -> None:
    model = pygru.Sequential(
        pygru.Embedding(4, 3), pygru.RepeatVector(4), pygru.GRU(3, 3, **BATCHED)
    )
    with pytest.raises(ValueError, match=r"X must have shape \(N,\) for a model that reads single"):
        evaluation.predict(model, np.zeros((6, 2), int))


def test_feed_forward_models_take_samples_of_any_axes() -> None:
    model = pygru.Linear(2, 1, rng=0)
    for shape in ((6, 2), (6, 4, 2), (6, 5, 4, 2)):
        X = np.ones(shape)
        assert fit(model, X, X[..., :1], epochs=1).loss
        assert evaluation.predict(model, X).shape == (*shape[:-1], 1)


@pytest.mark.parametrize(
    "X, Y, changes, message",
    [
        (X_STEPS, np.zeros(6), {"lengths": [4] * 6}, r"of y, \(1, 4, 1\), got \(1,\)"),
        (X_LIST, np.zeros(6), {}, r"sequences as .*X is, .* \(6, 4, 2\), .* got shape \(6,\)"),
        (X_LIST, np.zeros((6, 4, 1)), {}, r"sequences as .*X is, .* got shape \(6, 4, 1\)"),
        (X_STEPS, 1.0, {}, r"Y must have as many samples as .*X, 6, got shape \(\)"),
        (X_STEPS, np.zeros((6, 0)), {}, r"no axis of length 0, got .* \(6, 4, 2\) and \(6, 0\)"),
        (X_STEPS, np.zeros((6, 4, 0)), {}, r"length 0, got .* \(6, 4, 2\) and \(6, 4, 0\)"),
        (np.zeros((6, 0, 2)), np.zeros((6, 1)), {}, r"length 0, got .* \(6, 0, 2\) and \(6, 1\)"),
    ],
)
def test_targets_of_a_wrong_shape_are_named_with_both_shapes(
    X: Any, Y: Any, changes: dict[str, Any], message: str
) -> None:
    before = PER_STEP.flat_params.copy()
    with pytest.raises(ValueError, match=message):
        fit(PER_STEP, X, Y, batch_size=1, **changes)
    validation = (X, Y, *changes.values())
    with pytest.raises(ValueError, match="fit: validation .*" + message):
        fit(PER_STEP, X_STEPS, X_STEPS[..., :1], validation=validation)
    assert np.array_equal(PER_STEP.flat_params, before)


def test_validation_data_of_another_width_is_named() -> None:
    before = PER_STEP.flat_params.copy()
    message = r"^fit: validation X must have shape \(N, T, I\) with I = 2, got \(6, 4, 3\)$"
    with pytest.raises(ValueError, match=message):
        fit(PER_STEP, X_STEPS, X_STEPS[..., :1], validation=(np.zeros((6, 4, 3)), X_STEPS[..., :1]))
    parts = [pygru.GRU(2, 3, **BATCHED)], [pygru.GRU(1, 3, **BATCHED), pygru.Linear(3, 1)]
    model = pygru.EncoderDecoder(*(pygru.Sequential(*part) for part in parts), start=0.0)
    message = r"fit: validation data must fit .*EncoderDecoder.*: target .* got shape \(1, 4, 2\)"
    with pytest.raises(ValueError, match=message):
        fit(model, X_STEPS, X_STEPS[..., :1], validation=(X_STEPS, X_STEPS))
    assert np.array_equal(PER_STEP.flat_params, before)


def test_validation_data_of_another_kind_are_named() -> None:
    class Counting(Affine):
        def __call__(self, x: Any, *, lengths: Any = None) -> Any:
            if x.dtype.kind != "i":
                raise TypeError(f"x must hold integers, got dtype {x.dtype}")
            return super().__call__(x, lengths=lengths)

    X, Y = np.ones((6, 1), int), np.ones((6, 1))
    message = "fit: validation data must fit the model as X and Y do: x must hold integers"
    with pytest.raises(TypeError, match=message):
        fit(Counting(), X, Y, validation=(Y, Y))
    with pytest.raises(TypeError, match=r"^x must hold integers"):
        fit(Counting(), Y, Y)


@pytest.mark.parametrize("axes, reads", [((5,), "with I = 2"), ((2, 2), "for a model that reads")])
def test_sequences_of_another_shape_than_the_model_reads_are_named(axes: Any, reads: str) -> None:
    shape = re.escape(str((2, 4, *axes)))
    with pytest.raises(ValueError, match=rf"X must have shape \(N, T, I\) {reads}.*, got {shape}$"):
        evaluation.predict(PER_STEP, [np.zeros((n, *axes)) for n in (4, 2)])


def test_a_class_of_the_users_may_read_another_width_than_its_layers() -> None:
    class Twice(pygru.Sequential):
        def __call__(self, x: Any, **given: Any) -> Any:
            return super().__call__(np.concatenate([x, x], -1), **given)

    model = Twice(pygru.GRU(2, 3, **BATCHED), pygru.LastStep())
    assert evaluation.predict(model, X_STEPS[..., :1]).shape == (6, 3)


def test_no_classes_at_all_are_within_any_range() -> None:
    model = pygru.Sequential(pygru.Embedding(4, 2), pygru.GRU(2, 3, **BATCHED), pygru.LastStep())
    assert evaluation.predict(model, np.zeros((0, 4), int)).shape == (0, 3)
    with pytest.raises(ValueError, match=r"X must have shape \(N, T\) for .*, got \(6, 4, 0\)$"):
        fit(model, np.zeros((6, 4, 0), int), np.zeros((6, 3)))


def test_a_decoder_reads_no_last_target() -> None:
    encoder = pygru.Sequential(pygru.GRU(2, 4, **BATCHED))
    decoder = pygru.Sequential(
        pygru.Embedding(4, 3), pygru.GRU(3, 4, **BATCHED), pygru.Linear(4, 5)
    )
    model = pygru.EncoderDecoder(encoder, decoder, start=0)
    Y = np.array([[1, 2, 4]] * 6)  # 4 is written only
    for targets in (Y, [row[n % 2 :] for n, row in enumerate(Y)]):
        assert fit(model, X_STEPS, targets, loss="cross_entropy", epochs=1).loss
    Y[3, 1] = 4
    with pytest.raises(ValueError, match=r"Y must hold integers .* = 3, got 4 at index \(3, 1\)"):
        fit(model, X_STEPS, Y, loss="cross_entropy")


@pytest.mark.parametrize("name", ["X", "Y", "validation X", "validation Y"])
@pytest.mark.parametrize("listed", [False, True])
def test_masked_samples_are_named(name: str, listed: bool) -> None:
    X, Y = (X_STEPS + 1.0, X_STEPS[..., :1] + 1.0)
    arrays = {"X": X, "Y": Y, "validation X": X, "validation Y": Y}
    arrays[name] = np.ma.array(arrays[name])
    arrays[name][3, 1, 0] = np.ma.masked
    if listed:
        arrays = {key: list(array) for key, array in arrays.items()}
    item = f"{name}[3]" if listed else name
    wanted = re.escape(f"fit: {item} must have no masked elements, got ")
    X, Y, *validation = arrays.values()
    with pytest.raises(ValueError, match=wanted):
        fit(PER_STEP, X, Y, validation=validation)


@pytest.mark.parametrize("name", ["X", "Y", "validation X", "validation Y"])
def test_numbers_that_the_models_dtype_has_no_room_for_are_named(name: str) -> None:
    X, Y = (X_STEPS + 1.0, X_STEPS[..., :1] + 1.0)
    arrays = {"X": X, "Y": Y, "validation X": X, "validation Y": Y}
    arrays[name] = arrays[name].copy()
    arrays[name][3, 1, 0] = 1e39
    before = PER_STEP.flat_params.copy()
    message = rf"fit: {name} must be finite in float32, got 1e\+39 at index \(3, 1, 0\) \(1 such"
    X, Y, *validation = arrays.values()
    with pytest.raises(ValueError, match=message):
        fit(PER_STEP, X, Y, validation=tuple(validation))
    assert np.array_equal(PER_STEP.flat_params, before)


def test_evaluate_names_targets_that_are_no_list_as_the_samples_are() -> None:
    message = r"^evaluate: Y must be a list of sequences as X is, .* got shape \(6, 4, 1\)"
    with pytest.raises(ValueError, match=message):
        pygru.evaluate(PER_STEP, X_LIST, np.zeros((6, 4, 1)), loss="mse", batch_size=2)


@pytest.mark.parametrize("name", ["X", "Y", "validation X", "validation Y"])
def test_an_array_of_sequences_is_told_to_become_a_list(name: str) -> None:
    Y = [x[:, :1] for x in X_LIST]
    arrays: dict[str, Any] = {"X": X_LIST, "Y": Y, "validation X": X_LIST, "validation Y": Y}
    one = np.empty(6, object)
    one[:] = arrays[name]
    message = f"fit: {name} must be a list .* got ndarray of ndarray: list\\({name}\\) makes one"
    X, Y, *validation = (arrays | {name: one}).values()
    with pytest.raises(TypeError, match=message):
        fit(PER_STEP, X, Y, validation=validation)
    X, Y, *validation = (arrays | {name: list(one)}).values()
    fit(PER_STEP, X, Y, validation=validation, epochs=1)
    for n, sequence in enumerate(arrays[name]):
        one[n] = sequence.tolist()
    X, Y, *validation = (arrays | {name: one}).values()
    with pytest.raises(TypeError, match=message.replace("of ndarray", "of list")):
        fit(PER_STEP, X, Y, validation=validation)
    X, Y, *validation = (arrays | {name: one[:0]}).values()
    with pytest.raises(TypeError, match=f"fit: {name} must hold real numbers, got dtype object"):
        fit(PER_STEP, X, Y, validation=validation)


def test_a_list_of_layers_is_told_to_come_one_by_one():
    layers = [pygru.Linear(2, 3, rng=0), pygru.Linear(3, 1, rng=0)]
    with pytest.raises(TypeError, match="one by one"):
        pygru.Sequential(layers)
    pygru.Sequential(*layers)


def test_unknown_losses_and_metrics_are_errors_of_the_function_that_was_called():
    model, X = pygru.Linear(2, 2, rng=0), np.zeros((6, 2))
    settings = {"optimizer": pygru.SGD(0.1), "epochs": 1, "verbose": 0}
    with pytest.raises(ValueError, match=r"^fit: loss must be one of"):
        pygru.fit(model, X, X, loss="mea", **settings)
    with pytest.raises(ValueError, match=r"^fit: metric must be one of"):
        pygru.fit(model, X, X, loss="mae", metrics="acuracy", **settings)
    with pytest.raises(ValueError, match=r"^evaluate: loss must be one of"):
        pygru.evaluate(model, X, X, loss="mea")


@pytest.mark.parametrize(
    "data, kind", [(None, "NoneType"), ({}, "dict"), (iter([]), "list_iterator")]
)
def test_what_is_no_array_is_called_by_its_type(data: Any, kind: str) -> None:
    message = rf"^predict: X must be an array or a list of arrays, got {kind}$"
    with pytest.raises(TypeError, match=message):
        pygru.predict(last_of(pygru.GRU(2, 3, **BATCHED)), data)


def test_padding_may_be_anything_of_any_kind_of_array() -> None:
    model = pygru.Sequential(
        pygru.Embedding(3, 2, rng=0), pygru.GRU(2, 2, batch_first=True, rng=1), pygru.LastStep()
    )
    X, lengths = np.array([[1, 2, -1], [0, -1, 7]]), [2, 1]
    clean = np.array([[1, 2, 0], [0, 0, 0]])
    for given in (X, X.tolist()):
        assert np.array_equal(
            pygru.predict(model, given, lengths=lengths),
            pygru.predict(model, clean, lengths=lengths),
        )
    with pytest.raises(ValueError, match=r"^predict: X must hold integers in .* index \(0, 2\)"):
        pygru.predict(model, X, lengths=[3, 1])
    gru, holes = pygru.GRU(1, 2, batch_first=True, rng=0), [[[1.0], [np.nan]]]
    y = pygru.predict(gru, holes, lengths=[1])
    assert np.array_equal(y, gru([[[1.0], [0.0]]], lengths=[1])[0])
    with pytest.raises(ValueError, match=r"^predict: lengths must be one array, got nested"):
        pygru.predict(model, X, lengths=[[1, 2], [3]])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^predict: X must be finite, got nan at index \(1,\)"):
        pygru.predict(gru, [1.0, np.nan], lengths=[1, 1])
    for wrong in ([1, 2], ["a"] * 3, [None] * 3):
        with pytest.raises(ValueError, match=r"^predict: X must be finite"):
            pygru.predict(gru, np.full((3, 2, 1), np.nan), lengths=wrong)
    ends = np.array([1])
    kept, _ = samples.check_inputs("predict", gru, holes, ends)
    ends[0] = 2  # as a callback of fit may, between batches
    assert kept[:].tolist() == [[[1.0], [0.0]]]

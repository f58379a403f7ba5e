# SPDX-License-Identifier: MIT
"""Delayed many to many: gradients, what may and may not reach the decoder, and free running."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from tolerances import assert_close, finite_difference

import pygru

T, B, H = 4, 3, 3
START, END, SOURCES, WRITTEN = 5, 4, 6, 5  # classes 0 .. 3 are digits


def make_classes(batch_first=False, bidirectional=False, layers=1, one_hot=False, seed=0, H=H):
    """Read classes, write classes."""
    rng = np.random.default_rng(seed)
    options = {"batch_first": batch_first, "dtype": np.float64, "rng": rng}
    D = 1 + bidirectional

    def table(K):
        return pygru.OneHot(K) if one_hot else pygru.Embedding(K, K, dtype=np.float64, rng=rng)

    return pygru.EncoderDecoder(
        pygru.Sequential(
            table(SOURCES), pygru.GRU(SOURCES, H, layers, bidirectional=bidirectional, **options)
        ),
        pygru.Sequential(
            table(START + 1),
            pygru.GRU(START + 1, D * H, layers, **options),
            pygru.Linear(D * H, WRITTEN, dtype=np.float64, rng=rng),
        ),
        start=START,
        end=END,
    )


def make_values(dtype=np.float64, batch_first=False):
    """Read values, write values, with a recurrent layer in the encoder that hands over nothing."""
    options = {"batch_first": batch_first, "dtype": dtype, "rng": 0}
    return pygru.EncoderDecoder(
        pygru.Sequential(
            pygru.RNN(2, H, bidirectional=True, **options), pygru.GRU(2 * H, H, **options)
        ),
        pygru.Sequential(pygru.RNN(2, H, **options), pygru.Linear(H, 2, dtype=dtype, rng=0)),
        start=[0.5, -0.5],
    )


X = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [2, 2, 1, 0]]).T  # (T, B)
TARGET = np.array([[3, 2, 1, 0, END], [0, 1, END, -7, 99], [END, -1, -1, -1, -1]]).T  # (T', B)
LENGTHS = [4, 1, 3]


@pytest.mark.parametrize("one_hot", [False, True], ids=["embedding", "one-hot"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_every_gradient_with_teacher_forcing_is_the_finite_difference(
    batch_first, layers, bidirectional, one_hot
):
    model = make_classes(batch_first, bidirectional, layers, one_hot, H=2)
    x, target = (X.T, TARGET.T) if batch_first else (X, TARGET)
    ends = model.target_lengths(target)
    assert ends.tolist() == [5, 3, 1]

    def loss():
        y = model(x, target, lengths=LENGTHS)
        return pygru.losses.cross_entropy(y, target, ends, batch_first=batch_first)[0]

    y, tape = model.forward(x, target, lengths=LENGTHS)
    assert y.shape == (*target.shape, WRITTEN)
    value, dy = pygru.losses.cross_entropy(y, target, ends, batch_first=batch_first)
    assert value == loss()
    assert model.backward(tape, dy) is None
    expected = finite_difference(loss, model.flat_params)
    assert_close(model.flat_grads, expected, "finite differences", "flat_grads")


def test_gradients_of_values_reach_the_input(rng):
    model = make_values()
    x, target = rng.standard_normal((T, B, 2)), rng.standard_normal((6, B, 2))
    ends = [6, 0, 2]
    y, tape = model.forward(x, target, lengths=LENGTHS, target_lengths=ends)
    dy = rng.standard_normal(y.shape)

    def loss():
        return float(np.sum(dy * model(x, target, lengths=LENGTHS, target_lengths=ends)))

    dx = model.backward(tape, dy)
    assert_close(dx, finite_difference(loss, x), "finite differences", "dx")
    expected = finite_difference(loss, model.flat_params)
    assert_close(model.flat_grads, expected, "finite differences", "flat_grads")


def test_a_model_is_an_encoder_and_a_decoder_that_starts_from_its_state(rng):
    model = make_values()
    x, target = rng.standard_normal((T, B, 2)), rng.standard_normal((6, B, 2))
    _, state = model.encoder.run(x, lengths=LENGTHS)
    shifted = np.concatenate([np.broadcast_to([[[0.5, -0.5]]], (1, B, 2)), target[:-1]])
    expected, _ = model.decoder.run(shifted, state[1:])
    assert np.array_equal(model(x, target, lengths=LENGTHS), expected)


def test_both_directions_of_an_encoder_stand_side_by_side_in_the_decoder():
    model = make_classes(bidirectional=True, layers=2)
    _, (h_n,) = model.encoder.run(X)
    h_0 = np.concatenate([h_n[[0, 2]], h_n[[1, 3]]], axis=2)  # (L, B, 2H)
    target = np.abs(TARGET) % END  # no padding
    shifted = np.concatenate([np.full((1, B), START), target[:-1]])
    expected, _ = model.decoder.run(shifted, [h_0])
    assert np.array_equal(model(X, target), expected)


def test_what_follows_the_end_of_a_target_counts_nowhere():
    model = make_classes()
    y, tape = model.forward(X, TARGET, lengths=LENGTHS)
    ends = model.target_lengths(TARGET)
    _, dy = pygru.losses.cross_entropy(y, TARGET, ends)
    model.backward(tape, dy)
    for b, end in enumerate(ends):
        alone = copy.deepcopy(model)
        y_b = alone(X[: LENGTHS[b], b], TARGET[:end, b])
        assert_close(y[:end, b], y_b, "reference", "y")


@pytest.mark.parametrize("batch_first", [False, True])
def test_free_running_feeds_back_what_was_written(batch_first):
    model = make_classes(batch_first)
    model.flat_params[...] *= 4.0  # so that it does not always write the same
    x = X.T if batch_first else X
    written = model.generate(x, 6, lengths=LENGTHS)
    rows = written if batch_first else written.T
    assert rows.shape == (B, 6)
    # With its own output for a target, each step is the most probable one.
    y = model(x, written, lengths=LENGTHS)
    best = y.argmax(axis=-1)
    ends = model.target_lengths(written)
    for b in range(B):
        own = best[b] if batch_first else best[:, b]
        assert own[: ends[b]].tolist() == rows[b, : ends[b]].tolist()
        assert (rows[b, ends[b] :] == END).all()
        alone = model.generate(x[b, : LENGTHS[b]] if batch_first else x[: LENGTHS[b], b], 6)
        assert alone.tolist() == rows[b].tolist()


def test_writing_ends_when_every_sequence_has(monkeypatch):
    model = make_classes()
    model.params["decoder.2.bias"][END] = 100.0
    calls = []
    run = model.decoder.run
    monkeypatch.setattr(model.decoder, "run", lambda *a, **k: calls.append(1) or run(*a, **k))
    assert (model.generate(X, 50) == END).all()
    assert len(calls) == 1


def test_free_running_of_values_and_of_drawn_classes(rng):
    model = make_values()
    x = rng.standard_normal((T, B, 2))
    written = model.generate(x, 6)
    assert_close(model(x, written), written, "reference", "written")
    assert model.generate(x[:, 0], 6).shape == (6, 2)
    classes = make_classes()
    one = classes.generate(X, 20, temperature=2.0, rng=1)
    for written, end in zip(one.T, classes.target_lengths(one), strict=True):
        assert (written[end:] == END).all()
    assert np.array_equal(one, classes.generate(X, 20, temperature=2.0, rng=1))
    assert not np.array_equal(one, classes.generate(X, 20, temperature=2.0, rng=2))


def test_a_model_learns_to_reverse_digits():
    rng = np.random.default_rng(0)
    options = {"batch_first": True, "rng": rng}
    model = pygru.EncoderDecoder(
        pygru.Sequential(pygru.OneHot(4), pygru.GRU(4, 24, **options)),
        pygru.Sequential(
            pygru.OneHot(6), pygru.GRU(6, 24, **options), pygru.Linear(24, 5, rng=rng)
        ),
        start=5,
        end=4,
    )
    x = rng.integers(0, 4, (256, 3))
    lengths = rng.integers(1, 4, 256)
    target = np.full((256, 4), 4)
    for row, own, length in zip(target, x, lengths, strict=True):
        row[:length] = own[:length][::-1]
    ends = model.target_lengths(target)
    optimizer = pygru.Adam(0.02)
    for _ in range(150):
        y, tape = model.forward(x, target, lengths=lengths)
        _, dy = pygru.losses.cross_entropy(y, target, ends, batch_first=True)
        model.zero_grad()
        model.backward(tape, dy)
        optimizer.step(model.flat_params, model.flat_grads)
    assert (model.generate(x, 4, lengths=lengths) == target).all(axis=1).mean() > 0.97


def test_one_buffer_holds_both_and_files_and_copies_give_back_the_same(tmp_path):
    for model in (make_classes(bidirectional=True, layers=2), make_values(np.float32)):
        assert model.flat_params.size == sum(
            part.flat_params.size for part in (model.encoder, model.decoder)
        )
        assert np.shares_memory(
            model.decoder.params["1.weight" if len(model.decoder) == 2 else "2.weight"],
            model.flat_params,
        )
        model.save(tmp_path / "model")
        for same in (
            pygru.load(tmp_path / "model"),
            copy.deepcopy(model),
            pickle.loads(pickle.dumps(model)),
        ):
            assert repr(same) == repr(model)
            assert same.config() == model.config()
            assert np.array_equal(same.flat_params, model.flat_params)
            x = X if model.end is not None else np.ones((T, B, 2))
            assert np.array_equal(same.generate(x, 5), model.generate(x, 5))
            same.flat_params[...] = 0.0
            assert not same.encoder.flat_params.any()


# Bad input


def parts(**changes):
    encoder = [pygru.OneHot(4), pygru.GRU(4, 8, 2)]
    decoder = [pygru.OneHot(5), pygru.GRU(5, 8, 2), pygru.Linear(8, 4)]
    return pygru.EncoderDecoder(
        pygru.Sequential(*changes.pop("encoder", encoder)),
        pygru.Sequential(*changes.pop("decoder", decoder)),
        **({"start": 4} | changes),
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: pygru.EncoderDecoder(pygru.GRU(1, 1), pygru.Sequential(), start=0),
            TypeError,
            "EncoderDecoder: encoder must be a Sequential, got GRU(",
        ),
        (
            lambda: parts(encoder=[pygru.GRU(4, 8, 2), pygru.LastStep()]),
            ValueError,
            "EncoderDecoder: encoder must look at one step after another, got one with LastStep",
        ),
        (
            lambda: parts(encoder=[pygru.GRU(4, 8, 2), pygru.Linear(8, 8)]),
            ValueError,
            "must end in a recurrent layer, from whose final state the decoder starts, got Linear",
        ),
        (lambda: parts(encoder=[]), ValueError, "got no layer"),
        (
            lambda: parts(decoder=[pygru.OneHot(5), pygru.Linear(5, 4)]),
            ValueError,
            "decoder must have recurrent layers, at most as many as the encoder, 1, got 0",
        ),
        (
            lambda: parts(decoder=[pygru.OneHot(5), pygru.GRU(5, 8)]),
            ValueError,
            "decoder must have (num_layers, hidden_size, bidirectional) = (2, 8, False) to start "
            "from the encoder's GRU, got (1, 8, False)",
        ),
        (
            lambda: parts(decoder=[pygru.OneHot(5), pygru.GRU(5, 8, 2, bidirectional=True)]),
            ValueError,
            "got (2, 8, True)",
        ),
        (
            lambda: parts(decoder=[pygru.OneHot(5), pygru.GRU(5, 8, 2, batch_first=True)]),
            ValueError,
            "must have the batch_first of encoder (Sequential), False, got True",
        ),
        (lambda: parts(start=5), ValueError, "start must hold integers in 0 .. K-1 = 4, got 5"),
        (lambda: parts(start=0.5), TypeError, "start must hold integers, got dtype float64"),
        (lambda: parts(start=[1, 2]), ValueError, "start must be one class, got shape (2,)"),
        (lambda: parts(end=[0, 1]), ValueError, "end must be one class, got shape (2,)"),
        (lambda: parts(end=[0]), ValueError, "end must be one class, got shape (1,)"),
        (lambda: parts(end=-1), ValueError, "end must hold integers in 0 .. K-1 = 3, got -1"),
        (
            lambda: parts(decoder=[pygru.GRU(5, 8, 2)], start=np.zeros(5), end=3),
            ValueError,
            "end must be None for real values, got 3",
        ),
        (
            lambda: parts(decoder=[pygru.GRU(5, 8, 2)], start=np.zeros((1, 5))),
            ValueError,
            "start must be a number or have shape (I,), got (1, 5)",
        ),
        (
            lambda: parts(decoder=[pygru.Dropout(), pygru.GRU(5, 8, 2)], start=[0.0]),
            ValueError,
            "start must hold as many values as the decoder reads, 5, got 1",
        ),
        (
            lambda: parts(decoder=[pygru.Linear(1, 5), pygru.GRU(5, 8, 2)], start=np.nan),
            ValueError,
            "start must be finite, got [nan]",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value).startswith("EncoderDecoder: ")
    assert message in str(caught.value)


def test_wrong_arguments_are_named_and_change_nothing():
    model = make_classes()
    for call, error, message in (
        (
            lambda: model.forward(X, TARGET[:, :2]),
            ValueError,
            "EncoderDecoder.forward: target must have as many sequences as x and values as start, "
            "(3,) besides time, got shape (5, 2)",
        ),
        (lambda: model.forward(X, TARGET[:, 0]), ValueError, "got shape (5,)"),
        (lambda: model.forward(X, 3), ValueError, "got shape ()"),
        (lambda: model.forward(X, TARGET[:0]), ValueError, "at least one step, got shape (0, 3)"),
        (lambda: model.target_lengths(TARGET[:0]), ValueError, "T >= 1, got (0, 3)"),
        (lambda: model.target_lengths(3), ValueError, "must have shape (T, B) or (T,), T >= 1, "),
        (lambda: model.generate(X[:, :0], 3), ValueError, "at least one sequence, got (4, 0)"),
        (
            lambda: model.forward(X, TARGET * 1.0),
            TypeError,
            "EncoderDecoder.forward: target must hold integers, got dtype float64",
        ),
        (
            lambda: model.forward(X, np.full((2, B), 17)),
            ValueError,
            "Embedding.forward: x must hold integers in 0 .. K-1 = 5, got 17",
        ),
        (
            lambda: model.forward(X, TARGET, target_lengths=[9, 1, 1]),
            ValueError,
            "EncoderDecoder.forward: target_lengths must satisfy 0 <= length <= T = 5, got 9",
        ),
        (lambda: model.forward(X, TARGET, lengths=[1, 1]), ValueError, "GRU.forward: lengths must"),
        (lambda: model.generate(X, 0), ValueError, "steps must be an integer >= 1, got 0"),
        (lambda: model.generate(X, 2**62), ValueError, "steps must fit in one array of at most "),
        (
            lambda: model.generate(X, 3, temperature=-1.0),
            ValueError,
            "EncoderDecoder.generate: temperature must be a number >= 0, got -1.0",
        ),
        (
            lambda: make_values().generate(np.zeros((T, B, 2)), 3, temperature=1.0),
            ValueError,
            "temperature must be None for real values",
        ),
        (
            lambda: make_values().forward(np.zeros((T, B, 2)), np.zeros((T, B, 3))),
            ValueError,
            "(3, 2) besides time, got shape (4, 3, 3)",
        ),
    ):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)

    y, tape = model.forward(X, TARGET)
    with pytest.raises(ValueError, match=r"EncoderDecoder.backward: dy must have the shape of y"):
        model.backward(tape, y[1:])
    assert not model.flat_grads.any()
    model.backward(tape, y)
    with pytest.raises(RuntimeError, match="tape was already used"):
        model.backward(tape, y)
    model.flat_params[...] = np.nan
    with pytest.raises(FloatingPointError, match=r"EncoderDecoder\.generate: the model gave NaN"):
        model.generate(X, 3)


def test_a_start_that_the_dtype_of_the_target_has_no_room_for_is_read_all_the_same():
    encoder = pygru.Sequential(pygru.Embedding(4, 3, rng=0), pygru.GRU(3, 4, rng=1))
    decoder = pygru.Sequential(
        pygru.Embedding(257, 3, rng=2), pygru.GRU(3, 4, rng=3), pygru.Linear(4, 256, rng=4)
    )
    model = pygru.EncoderDecoder(encoder, decoder, start=256)
    x, target = np.array([[1], [2]]), np.array([[7], [9], [255]])
    assert np.array_equal(model(x, target.astype(np.uint8)), model(x, target))

# SPDX-License-Identifier: MIT
"""Which layers a stream takes, and that those without a state give in it what they give outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import pygru


def tall(dtype: npt.DTypeLike) -> pygru.Sequential:
    """A model of every other layer that a stream takes."""
    return pygru.Sequential(
        pygru.Tanh(),
        pygru.LayerNorm(3, eps=1e-3, dtype=dtype),
        pygru.GRU(3, 17, dtype=dtype, rng=0),
        pygru.ReLU(),
        pygru.LayerNorm(17, dtype=dtype),
        pygru.Linear(17, 9, bias=False, dtype=dtype, rng=2),
        pygru.Sigmoid(),
        pygru.Sequential(pygru.RNN(9, 8, dtype=dtype, rng=3), pygru.Softmax()),
    )


@pytest.mark.parametrize("B", [1, 5])
def test_layers_without_a_state_run_in_a_stream(rng, isa, dtype, B):
    model = tall(dtype)
    for values in model.params.values():
        if values.ndim == 1:  # of LayerNorm, too: 1 and 0 would hide which is which
            values[...] = rng.standard_normal(values.shape)
    x = rng.standard_normal((150, B, 3)).astype(dtype)
    y = model(x)
    stream = pygru.Stream(model, batch=B)
    np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x[:7]]), y[:7])
    np.testing.assert_array_equal(stream.process(x[7:]), y[7:])
    assert len(stream.state) == 2
    assert stream.state[1].shape == (1, B, 8)


@pytest.mark.parametrize("given", [list, np.float64, np.float32, np.float16, np.int64, np.bool_])
def test_a_model_computes_in_its_own_dtype_whatever_x_is(given, dtype):
    x = np.array([[1e3, 1e3 + 0.25], [2.0, 3.0]])
    x = x.tolist() if given is list else x.astype(given)
    for below in ((pygru.Tanh(),), (pygru.Dropout(), pygru.ReLU()), (pygru.Softmax(),)):
        model = pygru.Sequential(*below, pygru.GRU(2, 3, dtype=dtype, rng=0), pygru.Softmax())
        y = model(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(model(np.asarray(x).astype(dtype)), y)
        np.testing.assert_array_equal(pygru.Stream(model).process(x), y)


def of_classes(layer: pygru.Layer, dtype: npt.DTypeLike) -> pygru.Sequential:
    return pygru.Sequential(
        layer, pygru.Dropout(0.5), pygru.Tanh(), pygru.GRU(9, 17, dtype=dtype, rng=0),
        pygru.Linear(17, 9, dtype=dtype, rng=1), pygru.Softmax(),
    )  # fmt: skip


@pytest.mark.parametrize("B", [1, 5])
@pytest.mark.parametrize("kind", ["Embedding", "OneHot"])
def test_a_stream_may_begin_with_integers(rng, isa, dtype, kind, B):
    layer = pygru.OneHot(9) if kind == "OneHot" else pygru.Embedding(6, 9, dtype=dtype, rng=0)
    model = of_classes(layer, dtype)
    x = rng.integers(0, 6, (150, B))
    y = model(x)
    stream = pygru.Stream(model, batch=B)
    np.testing.assert_array_equal(np.stack([stream.step(x_t) for x_t in x[:7]]), y[:7])
    np.testing.assert_array_equal(stream.process(x[7:]), y[7:])
    assert stream.process(x[:0]).shape == (0, B, 9)
    alone, out = pygru.Stream(model), np.empty(9, y.dtype)
    for t, given in enumerate((int(x[0, 0]), x[1, 0], x[2:3, 0].reshape(()), np.uint8(x[3, 0]))):
        assert alone.step(given, out=out) is out
        np.testing.assert_array_equal(out, y[t, 0])
    np.testing.assert_array_equal(alone.process(x[4:, 0].tolist()), y[4:, 0])
    assert alone.process([]).shape == (0, 9)


def test_integers_that_are_no_classes_leave_the_state():
    model = of_classes(pygru.Embedding(6, 9, rng=0), np.float32)
    stream, one = pygru.Stream(model, batch=2), pygru.Stream(model)
    stream.step([1, 2])
    before = stream.state[0].copy()
    with pytest.raises(ValueError, match=r"^Stream.step: x must hold classes, got one above 2\^63"):
        stream.step(np.array([1, 2**64 - 1], np.uint64))
    for wrong, got in (([0, 6], 6), ([-1, 0], -1), (np.array([0, 2**40]), 2**40)):
        with pytest.raises(
            ValueError, match=rf"^Stream.step: x must hold integers in 0 .. K-1 = 5, got {got}$"
        ):
            stream.step(wrong)
    for wrong, kind in (([0.0, 1.0], "float64"), ([False, True], "bool")):
        with pytest.raises(
            TypeError, match=f"^Stream.step: x must hold integers, got dtype {kind}$"
        ):
            stream.step(wrong)
    for wrong in (1, [1], [[1, 2]]):
        with pytest.raises(ValueError, match=r"^Stream.step: x must have shape \(2,\), got"):
            stream.step(wrong)
    with pytest.raises(ValueError, match=r"^Stream.process: block must have shape \(T, 2\), got"):
        stream.process([[1, 2, 3]])
    with pytest.raises(ValueError, match=r"^Stream.process: block must have a time axis"):
        one.process(3)
    with pytest.raises(ValueError, match=r"^Stream.step: out must have shape \(9,\), got \(\)"):
        one.step(3, out=np.empty((), np.float32))
    memory = np.zeros(20, np.int64)
    with pytest.raises(ValueError, match="out must not overlap x"):
        stream.step(memory[:2], out=memory.view(np.float32)[2:20].reshape(2, 9))
    np.testing.assert_array_equal(stream.state[0], before)


def test_streams_of_models_that_differ_in_what_is_no_parameter_share_nothing(rng):
    x = rng.standard_normal((4, 3)).astype(np.float32)
    models = [
        pygru.Sequential(pygru.LayerNorm(3, eps=eps), pygru.RNN(3, 3, rng=0), function())
        for eps in (1e-5, 0.5)
        for function in (pygru.Tanh, pygru.Sigmoid)
    ]
    streams = [pygru.Stream(model) for model in models]
    for model, stream in zip(models, streams, strict=True):
        np.testing.assert_array_equal(stream.process(x), model(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: pygru.GRU(3, 4, bidirectional=True), "a bidirectional GRU needs the future"),
        (lambda: pygru.Sequential(pygru.GRU(3, 4), pygru.MeanOverTime()), "got MeanOverTime"),
        (
            lambda: pygru.EncoderDecoder(
                pygru.Sequential(pygru.GRU(3, 4)),
                pygru.Sequential(pygru.GRU(4, 4)),
                start=[0.0] * 4,
            ),
            "must consist of .*, got EncoderDecoder",
        ),
        (lambda: pygru.Embedding(3, 4), "must hold a GRU"),
        *(
            (
                lambda b=b: pygru.Sequential(b(), pygru.OneHot(4), pygru.GRU(4, 4)),
                "must be the first",
            )
            for b in (pygru.Dropout, pygru.Tanh)
        ),
        (lambda: pygru.Sequential(pygru.LastStep(batch_first=True)), "must hold a GRU"),
        (lambda: pygru.Sequential(pygru.Tanh()), "must hold a GRU, an RNN, a Linear or a LayerNo"),
        (lambda: pygru.Tanh(), "must hold a GRU"),
        (
            lambda: None,
            "^Stream: model must be a Sequential, GRU, RNN, Linear or LayerNorm, got NoneType$",
        ),
        (
            lambda: [pygru.GRU(3, 4)],
            "model must be a Sequential, GRU, RNN, Linear or LayerNorm, got list$",
        ),
    ],
)
def test_what_can_not_be_streamed_is_refused_by_name(model, message):
    with pytest.raises(TypeError, match=message):
        pygru.Stream(model())


@pytest.mark.parametrize(
    "which", [1, [1], np.array([1], np.uint8), [False, True, False], [1, 1]], ids=str
)
def test_a_sequence_of_a_batch_begins_again_beside_the_others(which, rng):
    model = pygru.Sequential(pygru.GRU(2, 5, 2, rng=0), pygru.RNN(5, 3, rng=1))
    x = rng.standard_normal((6, 3, 2)).astype(np.float32)
    stream = pygru.Stream(model, batch=3)
    whole = model(x)
    np.testing.assert_array_equal(stream.process(x[:4]), whole[:4])
    stream.reset(which)
    rest = stream.process(x[4:])
    np.testing.assert_array_equal(rest[:, [0, 2]], whole[4:, [0, 2]])
    np.testing.assert_array_equal(rest[:, 1], model(x[4:])[:, 1])


def test_nobody_and_everybody_begins_again(rng):
    stream = pygru.Stream(pygru.GRU(2, 5, rng=0), batch=3)
    stream.step(rng.standard_normal((3, 2)))
    before = stream.state[0]
    for nobody in ([], [False] * 3):
        stream.reset(nobody)
        np.testing.assert_array_equal(stream.state[0], before)
    stream.reset(range(3))
    assert not stream.state[0].any()


@pytest.mark.parametrize(
    ("which", "error", "told"),
    [
        (3, ValueError, r"must be in 0 \.\. B-1 = 2, got 3$"),
        ([0, -1], ValueError, r"must be in 0 \.\. B-1 = 2, got -1$"),
        (2**63, ValueError, r"must be in 0 \.\. B-1 = 2, got 9223372036854775808$"),
        (1.0, TypeError, "must hold integers, got dtype float64$"),
        ("1", TypeError, "must hold integers, got dtype <U1$"),
        ([True], ValueError, r"must have shape \(B,\) = \(3,\) where .* booleans, got \(1,\)$"),
        ([[0], [1]], ValueError, r"must be one integer or have shape \(N,\), got \(2, 1\)$"),
    ],
    ids=str,
)
def test_sequences_that_are_not_there_reset_nothing(which, error, told):
    stream = pygru.Stream(pygru.GRU(2, 5, rng=0), batch=3)
    stream.step(np.ones((3, 2)))
    before = stream.state[0]
    with pytest.raises(error, match=f"^Stream.reset: sequences {told}"):
        stream.reset(which)
    np.testing.assert_array_equal(stream.state[0], before)
    with pytest.raises(ValueError, match="_core: sequences must be below B"):
        stream._reset(np.array([0, 3]))
    np.testing.assert_array_equal(stream.state[0], before)


def test_a_stream_without_a_batch_begins_again_as_a_whole():
    with pytest.raises(TypeError, match="sequences must be absent in a stream without"):
        pygru.Stream(pygru.GRU(2, 5, rng=0)).reset(0)


def test_what_a_stream_gives_of_its_state_can_not_be_written_to():
    stream = pygru.Stream(pygru.GRU(2, 5, rng=0))
    with pytest.raises(ValueError, match="read-only"):
        stream.state[0][0] = 0

# SPDX-License-Identifier: MIT
"""A model that writes on: the state is carried, and what comes out goes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pygru

K = 5


def make_classes(batch_first=False, rng=0):
    rng = np.random.default_rng(rng)
    model = pygru.Sequential(
        pygru.Embedding(K, 4, rng=rng),
        pygru.GRU(4, 8, 2, batch_first=batch_first, dropout=0.5, rng=rng),
        pygru.Linear(8, K, rng=rng),
    )
    model.flat_params[...] *= 3.0
    return model


def make_values(many_to_one, batch_first=False):
    rng = np.random.default_rng(0)
    layers = [pygru.GRU(2, 8, batch_first=batch_first, rng=rng), pygru.Linear(8, 2, rng=rng)]
    if many_to_one:
        layers.insert(1, pygru.LastStep())
    return pygru.Sequential(*layers)


PROMPT = np.array([[1, 2, 3], [0, 4, 4]]).T  # (T, B)


@pytest.mark.parametrize("batch_first", [False, True])
def test_greedy_writing_is_running_the_whole_text_again_and_again(batch_first):
    model = make_classes(batch_first)
    time = 1 if batch_first else 0
    prompt = PROMPT.T if batch_first else PROMPT
    text = prompt
    for _ in range(6):
        best = model(text).argmax(axis=-1).take([-1], time)
        text = np.concatenate([text, best], time)
    written = model.generate(prompt, 6, temperature=0.0)
    assert written.dtype.kind == "i"
    assert np.array_equal(np.concatenate([prompt, written], time), text)
    assert np.array_equal(model.generate(PROMPT[:, 1], 6, temperature=0), written.take(1, 1 - time))


@pytest.mark.parametrize("many_to_one", [False, True], ids=["every step", "last step"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_forecast_feeds_back_real_values(batch_first, many_to_one, rng):
    model = make_values(many_to_one, batch_first)
    time = 1 if batch_first else 0
    prompt = rng.standard_normal((4, 4, 2)).astype(np.float32)
    series = prompt
    for _ in range(5):
        y = model(series)
        y = np.expand_dims(y, time) if many_to_one else y.take([-1], time)
        series = np.concatenate([series, y], time)
    forecast = model.generate(prompt, 5)
    assert np.array_equal(np.concatenate([prompt, forecast], time), series)
    assert model.generate(prompt[0], 5).shape == (5, 2)


@pytest.mark.parametrize(
    "make", [make_classes, lambda: make_values(False), lambda: make_values(True)]
)
def test_every_prompt_of_a_batch_ends_where_it_ends(make, rng):
    model = make()
    classes = model.input_classes is not None
    prompt = rng.integers(0, K, (6, 3)) if classes else rng.standard_normal((6, 3, 2))
    written = model.generate(
        prompt, 4, lengths=[6, 1, 3], **({"temperature": 0} if classes else {})
    )
    for b, end in enumerate([6, 1, 3]):
        greedy = {"temperature": 0} if classes else {}
        assert np.array_equal(model.generate(prompt[:end, b], 4, **greedy), written[:, b])
        padded = model.generate(prompt[:, b], 4, lengths=end, **greedy)
        assert np.array_equal(padded, written[:, b])


def test_drawing_follows_the_temperature_and_the_seed():
    scores = np.log([0.5, 0.3, 0.2, 1e-30])
    model = pygru.Sequential(pygru.Embedding(4, 1), pygru.RNN(1, 1), pygru.Linear(1, 4))
    model.params["2.weight"] = np.zeros((4, 1))
    model.params["2.bias"] = scores

    def shares(**options):
        written = model.generate(np.zeros((1, 2000), int), 10, **options)
        return np.bincount(written.ravel(), minlength=4) / written.size

    assert shares(rng=0) == pytest.approx([0.5, 0.3, 0.2, 0.0], abs=0.02)
    squared = np.array([0.25, 0.09, 0.04, 0.0]) / 0.38
    assert shares(rng=0, temperature=0.5) == pytest.approx(squared, abs=0.02)
    assert shares(rng=0, temperature=1e-300).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert shares(temperature=0).tolist() == [1.0, 0.0, 0.0, 0.0]
    one = model.generate([0], 50, rng=3)
    assert np.array_equal(one, model.generate([0], 50, rng=np.random.default_rng(3)))
    assert not np.array_equal(one, model.generate([0], 50, rng=4))


def test_a_model_that_ends_in_softmax_draws_by_its_own_probabilities():
    scores = make_classes()
    model = pygru.Sequential(scores, pygru.Softmax())
    prompt = np.tile([[1], [2], [3]], 20_000)
    for temperature in (1.0, 0.5):
        drawn = model.generate(prompt, 1, temperature=temperature, rng=0)
        assert np.array_equal(drawn, scores.generate(prompt, 1, temperature=temperature, rng=0))
    share = np.bincount(model.generate(prompt, 1, rng=1)[0], minlength=K) / prompt.shape[1]
    assert np.abs(share - model(prompt[:, :1])[-1, 0]).max() < 0.02
    assert np.array_equal(
        model.generate(PROMPT, 4, temperature=0.0), scores.generate(PROMPT, 4, temperature=0.0)
    )


@pytest.mark.parametrize("after", [pygru.LastStep, pygru.Dropout])
def test_what_follows_a_softmax_and_changes_no_value_changes_nothing(after):
    model = pygru.Sequential(make_classes(), pygru.Softmax(), after())
    expected = pygru.Sequential(make_classes(), pygru.Softmax()).generate(PROMPT, 5, rng=0)
    assert np.array_equal(model.generate(PROMPT, 5, rng=0), expected)


def test_a_class_of_probability_zero_is_never_drawn():
    head = pygru.Linear(8, K, rng=0)
    model = pygru.Sequential(
        pygru.Embedding(K, 4, rng=0), pygru.GRU(4, 8, rng=1), head, pygru.Softmax()
    )
    head.params["bias"][:] = [0, 0, 1000, 0, 0]
    assert (model.generate(PROMPT, 50, rng=0) == 2).all()


@pytest.mark.parametrize("batch_first", [False, True])
def test_prompts_of_unequal_lengths_are_a_list(batch_first, rng):
    model = make_classes(batch_first)
    prompts = [np.array([1, 2, 3]), [4], (0, 1)]
    written = model.generate(prompts, 6, temperature=0)
    for b, prompt in enumerate(prompts):
        alone = model.generate(prompt, 6, temperature=0)
        assert np.array_equal(written[b] if batch_first else written[:, b], alone)
    values = make_values(False, batch_first)
    prompts = [rng.standard_normal((T, 2)) for T in (3, 1, 5)]
    written = values.generate(prompts, 4)
    for b, prompt in enumerate(prompts):
        alone = values.generate(prompt, 4)
        assert np.array_equal(written[b] if batch_first else written[:, b], alone)
    for wrong, message in (
        ([[1, 2], []], "must be one array"),
        ([[1, 2], [[3]]], "must be one array"),
        ([[1, 2], 3], "must be one array"),
    ):
        with pytest.raises(ValueError, match=f"^Sequential.generate: prompt {message}"):
            model.generate(wrong, 3)
    with pytest.raises(ValueError, match="lengths must be None for a list of sequences, got some"):
        model.generate([[1, 2], [3]], 3, lengths=[2, 1])
    with pytest.raises(ValueError, match=r"^Sequential.generate: prompt must be one array"):
        values.generate([[1.0, 2.0], [3.0]], 2)


def test_a_step_costs_a_step(monkeypatch):
    model = make_classes()
    steps = []
    run = model.run
    monkeypatch.setattr(model, "run", lambda x, *a, **k: steps.append(len(x)) or run(x, *a, **k))
    model.generate(PROMPT, 4)
    assert steps == [3, 1, 1, 1]


def test_what_cannot_be_continued_is_refused():
    classes, values = make_classes(), make_values(False)
    x = np.zeros((3, 2, 2))
    wide = pygru.Sequential(pygru.GRU(2, 4))
    both = pygru.Sequential(pygru.GRU(2, 1, bidirectional=True))
    mean = pygru.Sequential(pygru.GRU(2, 2), pygru.MeanOverTime())
    broken = make_classes()
    broken.flat_params[...] = np.nan
    more = pygru.Sequential(pygru.Embedding(K, 9, rng=0), pygru.RNN(9, 9, rng=0))
    for call, error, message in (
        (lambda: classes.generate(PROMPT * 1.0, 3), TypeError, "prompt must hold integers"),
        (lambda: values.generate([["a"]], 3), TypeError, "prompt must hold real numbers"),
        (lambda: classes.generate(3, 3), ValueError, "must have shape (T, B) or (T), got ()"),
        (lambda: values.generate([1.0], 3), ValueError, "must have shape (T, B, I) or (T, I)"),
        (
            lambda: make_values(False, True).generate([1.0], 3),
            ValueError,
            "must have shape (B, T, I) or (T, I), got (1,)",
        ),
        (
            lambda: classes.generate([K], 3),
            ValueError,
            "x must hold integers in 0 .. K-1 = 4, got 5",
        ),
        (
            lambda: classes.generate(np.zeros((3, 0), int), 3),
            ValueError,
            "prompt must hold at least one sequence, got shape (3, 0)",
        ),
        (lambda: classes.generate([], 3), ValueError, "prompt must hold at least one step"),
        (lambda: classes.generate(PROMPT, 3, lengths=[3, 0]), ValueError, "at least one step"),
        (lambda: classes.generate(PROMPT, 3, lengths=[3, 4]), ValueError, "got 4 at index 1"),
        (lambda: classes.generate(PROMPT, 0), ValueError, "steps must be an integer >= 1, got 0"),
        (
            lambda: classes.generate(PROMPT, 2.5),
            TypeError,
            "steps must be an integer >= 1, got 2.5",
        ),
        (
            lambda: classes.generate(PROMPT, 3, temperature=-1),
            ValueError,
            "temperature must be a number >= 0, got -1",
        ),
        (
            lambda: classes.generate(PROMPT, 3, temperature=np.nan),
            ValueError,
            "temperature must be a number >= 0, got nan",
        ),
        (
            lambda: classes.generate(PROMPT, 3, temperature="hot"),
            TypeError,
            "temperature must be a number >= 0, got 'hot'",
        ),
        (
            lambda: values.generate(x, 3, temperature=1.0),
            ValueError,
            "temperature must be None for real values, which are fed back as they are, got 1.0",
        ),
        (
            lambda: values.generate(x, 2**60),
            ValueError,
            "Sequential.generate: steps must fit in one array of at most ",
        ),
        (lambda: classes.generate([0], 2**64), ValueError, "steps must fit in one array of at "),
        (
            lambda: wide.generate(x, 3),
            ValueError,
            "the model must give as many values per step as it takes, 2, got 4",
        ),
        (
            lambda: more.generate([0], 1),
            ValueError,
            "the model must give at most as many classes as it takes, 5, got 9",
        ),
        (
            lambda: both.generate(x, 3),
            ValueError,
            "Sequential.generate: the model must look at the past alone, got a GRU with "
            "bidirectional=True",
        ),
        (
            lambda: mean.generate(x, 3),
            ValueError,
            "the model must look at one step after another, got one with MeanOverTime",
        ),
        (
            lambda: broken.generate(PROMPT, 3),
            FloatingPointError,
            "Sequential.generate: the model gave NaN or infinity",
        ),
        (
            lambda: values.generate(x * np.nan, 3),
            FloatingPointError,
            "Sequential.generate: the model gave NaN or infinity",
        ),
    ):
        with pytest.raises(error) as caught:
            call()
        assert message in str(caught.value)


# Layers that make the input of a sequence model


def test_one_hot_is_an_embedding_that_is_not_learnt(rng):
    x = rng.integers(0, K, (4, 3))
    one_hot, table = pygru.OneHot(K), pygru.Embedding(K, K)
    table.params["weight"] = np.eye(K)
    y, tape = one_hot.forward(x)
    assert np.array_equal(y, table(x))
    assert one_hot.backward(tape, y) is None
    assert one_hot(3).tolist() == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert one_hot(np.zeros((0, 2), int)).shape == (0, 2, K)
    for wrong, error in (([K], ValueError), ([-1], ValueError), ([0.0], TypeError)):
        with pytest.raises(error, match=r"OneHot.forward: x must hold integers"):
            one_hot(wrong)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_vector_becomes_a_sequence(batch_first, rng):
    x = rng.standard_normal((3, 2))
    y = pygru.RepeatVector(4, batch_first=batch_first)(x)
    assert y.shape == ((3, 4, 2) if batch_first else (4, 3, 2))
    assert all(np.array_equal(step, x) for step in (y.swapaxes(0, 1) if batch_first else y))
    model = pygru.Sequential(pygru.RepeatVector(4), pygru.GRU(2, 5, batch_first=batch_first, rng=0))
    assert model[0].batch_first == batch_first
    assert model(x).shape == ((3, 4, 5) if batch_first else (4, 3, 5))
    assert model(x[0]).shape == (4, 5)
    with pytest.raises(ValueError) as error:
        pygru.RepeatVector(4)(np.zeros((1, 2, 3)))
    assert str(error.value) == (
        "RepeatVector.forward: x must have shape (B, K) or (K,), got (1, 2, 3)"
    )
    with pytest.raises(ValueError, match="RepeatVector: n must be an integer >= 1, got 0"):
        pygru.RepeatVector(0)


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_list_of_prompts_is_one_whatever_their_lengths(batch_first: bool) -> None:
    model = pygru.Sequential(
        pygru.Embedding(5, 4, rng=0),
        pygru.GRU(4, 8, batch_first=batch_first, rng=1),
        pygru.Linear(8, 5, rng=2),
    )

    def of(prompts: Any, **given: Any) -> Any:
        written = model.generate(prompts, 3, temperature=0, **given)
        return (written if batch_first else written.T).tolist()

    alone = [model.generate(p, 3, temperature=0).tolist() for p in ([0, 1, 2], [4, 3, 1], [3])]
    assert of([[0, 1, 2], [4, 3, 1]]) == of([np.array([0, 1, 2]), (4, 3, 1)]) == alone[:2]
    assert of([[0, 1, 2], [4, 3, 1], [3]]) == of(([0, 1, 2], [4, 3, 1], [3])) == alone
    assert of([[0, 1, 2]]) == alone[:1]
    array = np.array([[0, 1, 2], [4, 3, 1]])
    array = array if batch_first else array.T
    assert of(array) == of(array.tolist(), lengths=[3, 3]) == alone[:2]
    x = np.random.default_rng(0).standard_normal((2, 4, 1))
    model = pygru.Sequential(pygru.GRU(1, 1, batch_first=batch_first, rng=0))
    with pytest.raises(ValueError, match="prompt must be one array, got nested sequences"):
        model.generate([[[0.0], [0.0, 1.0]], [[2.0]]], 3)
    written = model.generate([x[0], x[1]], 3)
    assert np.array_equal(model.generate(x[0], 3), written[0] if batch_first else written[:, 0])


def test_a_temperature_near_0_overflows_silently() -> None:
    model = pygru.Sequential(pygru.OneHot(3), pygru.GRU(3, 3, rng=0))
    cold = model.generate([1], 4, temperature=1e-320, rng=0)
    assert np.array_equal(cold, model.generate([1], 4, temperature=0))

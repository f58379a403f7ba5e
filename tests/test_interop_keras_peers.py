# SPDX-License-Identifier: MIT
"""Models come from Keras and go to it: in memory and in its files, with the same outputs."""

from __future__ import annotations

import os

import numpy as np
import pytest
from tolerances import TOLERANCES, assert_close

import pygru
from pygru.interop import formats, from_keras, to_keras_weights, write_keras_weights

pytest.importorskip("h5py")

I, H, M = 3, 4, 2  # noqa: E741


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow has much to say
    return pytest.importorskip("keras")


@pytest.fixture(params=["float32", "float64"])
def precision(request, keras):
    """Both precisions, as the one that Keras makes of an array."""
    before = keras.config.floatx()
    keras.config.set_floatx(request.param)
    yield request.param
    keras.config.set_floatx(before)


@pytest.mark.parametrize("bias", [False, True], ids=["unbiased", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "two-way"])
@pytest.mark.parametrize("variant", ["after", "before", "tanh", "relu"])
def test_models_in_memory_come_and_go(variant, bidirectional, bias, precision, keras, rng):
    layers, kind = keras.layers, {"dtype": precision, "use_bias": bias}

    def cell(**options):
        if variant in ("tanh", "relu"):
            one = layers.SimpleRNN(H, activation=variant, **options, **kind)
        else:
            one = layers.GRU(H, reset_after=variant == "after", **options, **kind)
        return layers.Bidirectional(one, dtype=precision) if bidirectional else one

    theirs = keras.Sequential([
        keras.Input((None, I), dtype=precision), cell(return_sequences=True),
        cell(return_sequences=True), cell(),
    ])  # fmt: skip
    weights = [rng.uniform(-0.5, 0.5, w.shape).astype(precision) for w in theirs.get_weights()]
    theirs.set_weights(weights)
    ours = from_keras(theirs)
    assert all(map(np.array_equal, to_keras_weights(ours), weights))
    x = rng.standard_normal((2, 3, I)).astype(precision)
    assert_close(ours(x), keras.ops.convert_to_numpy(theirs(x)), "interop")


def test_every_layer_that_has_an_equal_comes_from_a_file(keras, tmp_path, capsys):
    layers = keras.layers
    theirs = keras.Sequential([
        keras.Input((None,)), layers.Embedding(9, I), layers.Dropout(0.3),
        layers.GRU(H, return_sequences=True, dropout=0.1, recurrent_dropout=0.1),
        layers.TimeDistributed(layers.Dense(5, activation="relu")),
        layers.Bidirectional(layers.GRU(H, reset_after=False, return_sequences=True)),
        layers.LayerNormalization(), layers.SimpleRNN(H, activation="relu", return_sequences=True),
        layers.ReLU(), layers.GRU(H, return_sequences=True, use_bias=False),
        layers.GlobalAveragePooling1D(), layers.RepeatVector(4), layers.GRU(H),
        layers.Activation("sigmoid"), layers.Dense(3), layers.Dense(2, activation="tanh"),
        layers.Softmax(),
    ])  # fmt: skip
    theirs.compile("adam", "mse")
    theirs.optimizer.build(theirs.trainable_variables)  # the file has Adam's arrays too
    theirs.save(tmp_path / "model.keras")
    ours = from_keras(tmp_path / "model.keras", check=True)
    assert all(map(np.array_equal, to_keras_weights(ours), theirs.get_weights()))
    out = capsys.readouterr().out
    assert out.startswith("from_keras: largest absolute difference to keras ")
    assert float(out.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"]
    from_keras(theirs, check=True)


def test_functional_models_and_bare_weights_come_and_go(keras, tmp_path):
    layers = keras.layers
    x = keras.Input((None, I))
    y = layers.Bidirectional(layers.GRU(H))(layers.GRU(H, return_sequences=True)(x))
    theirs = keras.Model(x, layers.Dense(M)(y))
    theirs.save(tmp_path / "model.keras")
    theirs.save_weights(tmp_path / "model.weights.h5")
    ours = from_keras(tmp_path / "model.keras", check=True)
    from_keras(theirs, check=True)
    for batch_first in (False, True):
        empty = pygru.Sequential(
            pygru.GRU(I, H, batch_first=batch_first),
            pygru.GRU(H, H, bidirectional=True, batch_first=batch_first),
            pygru.BothEnds(), pygru.Linear(2 * H, M),
        )  # fmt: skip
        from_keras(tmp_path / "model.weights.h5", into=empty, check=True)
        assert np.array_equal(empty.flat_params, ours.flat_params)
    for array in theirs.weights:
        array.assign(array * 0)
    write_keras_weights(ours, tmp_path / "back.weights.h5")
    theirs.load_weights(tmp_path / "back.weights.h5")
    assert all(map(np.array_equal, to_keras_weights(ours), theirs.get_weights()))


def test_check_begins_with_what_the_model_reads(keras, tmp_path, capsys):
    """A vector where there are no steps yet; the first width where the first module has none."""
    layers = keras.layers
    from_keras(keras.Sequential([keras.Input((I,)), layers.Dense(H), layers.Dense(M)]), check=True)
    path = tmp_path / "model.weights.h5"
    for row in (
        [pygru.Dropout(0.5), pygru.Tanh(), pygru.GRU(I, H), pygru.LastStep()],
        [pygru.Linear(I, H), pygru.RepeatVector(4), pygru.GRU(H, M)],
        [pygru.ReLU()],
    ):
        formats.write(pygru.Sequential(*row), path, check=True)
    assert capsys.readouterr().out.count("difference to keras ") == 4


def test_layers_of_a_live_model_without_an_equal_are_refused(keras):
    layers = keras.layers
    for one, message in (
        (layers.LSTM(H), r"\(LSTM\) must"),
        (layers.Bidirectional(layers.GRU(H), merge_mode="sum"), "must have merge_mode='concat'"),
        (layers.Bidirectional(layers.LSTM(H)), "must hold a GRU or SimpleRNN, got LSTM"),
        (layers.GRU(H, activation="elu"), "must have activation='tanh', got 'elu'"),
    ):
        with pytest.raises(ValueError, match=message):
            from_keras(keras.Sequential([keras.Input((None, I)), one]))
    masked = [keras.Input((None,)), layers.Embedding(9, I, mask_zero=True), layers.GRU(H)]
    with pytest.raises(ValueError, match="must have mask_zero=False, got True"):
        from_keras(keras.Sequential(masked))


def test_a_live_model_is_a_row_and_needs_no_into(keras):
    theirs = keras.Sequential([keras.Input((None, I)), keras.layers.GRU(H, return_sequences=True)])
    assert isinstance(from_keras(theirs), pygru.Sequential)
    with pytest.raises(ValueError, match="into must be None for a whole model"):
        from_keras(theirs, pygru.GRU(I, H))


def test_check_of_every_step(keras, tmp_path, capsys):
    layers = keras.layers
    theirs = keras.Sequential([keras.Input((None, I)), layers.GRU(H, return_sequences=True)])
    from_keras(theirs, check=True)
    row = pygru.Sequential(pygru.GRU(I, H, 2), pygru.LastStep())
    formats.write(row, tmp_path / "model.weights.h5", check=True)
    row = pygru.Sequential(
        pygru.GRU(I, H, bias=False, bidirectional=True), pygru.GRU(2 * H, H, reset="before"),
        pygru.RNN(H, H, bias=False, nonlinearity="relu"),
        pygru.Linear(H, M, bias=False),
    )  # fmt: skip
    formats.write(row, tmp_path / "model.weights.h5", check=True)
    assert capsys.readouterr().out.count("difference to keras ") == 3


def test_one_output_is_that_of_the_last_layer(keras, tmp_path):
    layers, path = keras.layers, tmp_path / "model.keras"
    x = keras.Input((None, I))
    y = layers.GRU(H, return_sequences=True, name="gru")(x)
    z = layers.Dense(M, name="dense")(y)
    for outputs, good in (
        ([z], True), ({"z": z}, True), ([z, y], False), ([z, z], False), ({"z": z, "y": y}, False),
    ):  # fmt: skip
        theirs = keras.Model(x, outputs)
        theirs.save(path)
        for source in (theirs, path):
            if good:
                assert len(from_keras(source, check=True)) == 2
                continue
            with pytest.raises(ValueError, match=r"its last layer, got \['dense', '(gru|dense)'\]"):
                from_keras(source)


def test_a_class_of_the_same_name_as_keras_own_is_refused(keras, tmp_path):
    layers, path = keras.layers, tmp_path / "model.keras"

    class Dense(layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    @keras.saving.register_keras_serializable("tests")
    class GRU(layers.GRU):
        pass

    class Sequential(keras.Sequential):
        pass

    registered = keras.saving.register_keras_serializable("tests")(type("Dense", (Dense,), {}))
    own = layers.GRU(H, return_sequences=True)
    for cls, layer, message in (
        (keras.Sequential, Dense(M), r"\(Dense, not Keras's own\) must be a layer that pygru has"),
        (keras.Sequential, registered(M), r"\(Dense, not Keras's own\) must be a layer that"),
        (keras.Sequential, layers.TimeDistributed(registered(M)), "Dense, got Dense, not Keras's"),
        (keras.Sequential, layers.Bidirectional(GRU(H)), "or SimpleRNN, got GRU, not Keras's own"),
        (Sequential, layers.Dense(M), "or Functional model, got Sequential, not Keras's own"),
    ):
        theirs = cls([keras.Input((None, I)), own, layer])
        theirs.save(path)
        for source in (theirs, path):
            with pytest.raises(ValueError, match=message):
                from_keras(source)


def test_check_computes_in_the_precision_of_the_model(keras, tmp_path, capsys):
    """Whatever that of the input is: Keras rounds to it what it is given."""
    kind = {"dtype": "float64"}
    for read in ("float32", "float64"):
        gru = keras.layers.GRU(H, return_sequences=True, **kind)
        theirs = keras.Sequential([
            keras.Input((None, I), dtype=read), gru, keras.layers.Dense(M, **kind),
        ])  # fmt: skip
        theirs.save(tmp_path / "model.keras")
        for source in (theirs, tmp_path / "model.keras"):
            from_keras(source, check=True)
    row = [
        pygru.GRU(I, H, **kind), pygru.MeanOverTime(), pygru.Tanh(), pygru.RepeatVector(3),
        pygru.RNN(H, H, **kind), pygru.LastStep(), pygru.LayerNorm(H, **kind), pygru.Softmax(),
    ]  # fmt: skip
    formats.write(pygru.Sequential(*row), tmp_path / "model.weights.h5", check=True)
    table = pygru.Sequential(pygru.Embedding(9, I, **kind), pygru.Linear(I, M, **kind))
    formats.write(table, tmp_path / "model.weights.h5", check=True)
    assert capsys.readouterr().out.count("difference to keras ") == 6


def test_models_that_are_no_row_of_layers_are_named(keras, tmp_path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(M)

        def call(self, x):
            return self.head(x)

    theirs, path = Net(), tmp_path / "model.keras"
    theirs(np.zeros((1, I)))
    theirs.save(path)
    for source in (theirs, path):
        with pytest.raises(ValueError, match="must be a Sequential or Functional model, got Net"):
            from_keras(source)
    with pytest.raises(ValueError, match="must be a Sequential or Functional model, got GRU"):
        from_keras(keras.layers.GRU(H))
    theirs = keras.Sequential([keras.Input((None, I)), keras.layers.GRU(H)])
    theirs.save(tmp_path / "model.h5")
    with pytest.raises(ValueError, match=r"load it and save it as \.keras"):
        from_keras(tmp_path / "model.h5")


def test_layers_that_act_in_training_only_are_passed_over(keras, tmp_path):
    layers = keras.layers
    x = y = keras.Input((None, I))
    for layer in (
        layers.GaussianNoise(0.5), layers.GRU(H, return_sequences=True),
        layers.SpatialDropout1D(0.5), layers.GaussianDropout(0.5), layers.AlphaDropout(0.5),
        layers.ActivityRegularization(0.5), layers.Identity(), layers.Dense(M),
    ):  # fmt: skip
        y = layer(y)
    theirs = keras.Model(x, y)
    theirs.save(tmp_path / "model.keras")
    for source in (theirs, tmp_path / "model.keras"):
        ours = from_keras(source, check=True)
        assert [type(module).__name__ for module in ours] == ["GRU", "Linear"]

# SPDX-License-Identifier: MIT
"""The `pygru` command answers plainly: a line and an exit code, never a traceback."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from tolerances import TOLERANCES

import pygru
from pygru import cli
from pygru.examples import EXAMPLES
from pygru.interop import formats


def test_example_alone_lists_what_there_is(capsys):
    assert cli.main(["example"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, (duration, summary) in EXAMPLES.items():
        assert [name, *duration.split(), *summary.split()] in [line.split() for line in lines]
        assert re.fullmatch(r"\d+ (s|min)", duration)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["example", "nonsense"],
        ["example", "sine", "--epochs", "0"],
        ["example", "sine", "--epochs", "many"],
        ["example", "sine", "--reset", "sometimes"],
        ["example", "sine", "--seed", "-1"],
        ["example", "sine", "--lr", "nan"],
        ["example", "addition", "--sums", "1000000"],
        ["example", "addition", "--sums", "1"],
        ["example", "memory", "--length", "1"],
        ["example", "memory", "--sequences", "31"],
        ["example", "chars", "--characters", "2999"],
        ["info"],
        ["convert", "model.onnx"],
        ["bench", "model.onnx", "--seconds", "0"],
        ["bench", "model.onnx", "--seconds", "soon"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_says_why(argv, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(argv)
    assert exit_.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert "error:" in last
    if argv[-2:-1] and argv[-2].startswith("--"):
        assert f"argument {argv[-2]}: " in last


def test_info_tells_layers_variant_parameters_dtype_and_size(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    model = pygru.Sequential(pygru.GRU(3, 8, reset="before", rng=0), pygru.Linear(8, 2, rng=0))
    model.save(path)
    assert cli.main(["info", str(path)]) == 0
    out = capsys.readouterr().out
    count, size = model.flat_params.size, path.stat().st_size
    for expected in ("GRU", "before", "Linear", f"{count:,}", "float32", f"{size:,}"):
        assert expected in out


def test_info_reads_every_format(tmp_path, capsys):
    gru = pygru.GRU(3, 4, reset="before", rng=0)
    formats.write(gru, tmp_path / "gru.onnx")
    formats.write(gru, tmp_path / "gru.npz")
    formats.write(pygru.GRU(3, 4), tmp_path / "gru.json")
    for name, kind, reset in (
        ("gru.onnx", "ONNX model", "before"),
        ("gru.npz", "TensorFlow 1 GRUCell", "before"),
        ("gru.json", "RTNeural model", "after"),
    ):
        assert cli.main(["info", str(tmp_path / name)]) == 0
        out = capsys.readouterr().out
        for expected in (kind, f"reset='{reset}'", "float32", "bytes on disk"):
            assert expected in out


@pytest.mark.parametrize("name", ["model", "model.gru", "model.onnx", "model.pt", "model.json"])
def test_info_and_convert_read_what_save_wrote_under_any_name(name, tmp_path, capsys):
    path, copy = tmp_path / name, tmp_path / "copy.safetensors"
    model = pygru.Sequential(pygru.GRU(3, 4, rng=0))
    model.save(path)
    assert cli.main(["info", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("pygru model, ")
    assert cli.main(["convert", str(path), str(copy), "--check"]) == 0
    assert np.array_equal(pygru.load(copy).flat_params, model.flat_params)


def test_info_tells_a_model_from_a_state_dict(tmp_path, capsys):
    gru = pygru.GRU(3, 4, rng=0)
    pygru.save(gru, tmp_path / "model.safetensors")
    save_file(dict(gru.state_dict()), tmp_path / "weights.safetensors")
    for name, kind in (("model", "pygru model"), ("weights", "PyTorch state_dict")):
        assert cli.main(["info", str(tmp_path / f"{name}.safetensors")]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(f"{kind}, ")


def write_checkpoint(path, epochs):
    model = pygru.Linear(1, 1, rng=0)
    X, Y = np.ones((2, 8, 1))
    history = pygru.fit(
        model,
        *(X, Y),
        loss="mse",
        optimizer=pygru.SGD(0.1),
        epochs=epochs,
        validation=(X, Y),
        checkpoint=path,
        verbose=0,
        rng=0,
    )
    return history, repr(model)


def test_info_tells_how_far_the_training_of_a_checkpoint_came(tmp_path, capsys):
    path = tmp_path / "training.safetensors"
    history, model = write_checkpoint(path, 3)
    assert cli.main(["info", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        model,
        "2 parameters of float32",
        "a training by fit, 3 epochs so far; "
        f"best validation loss {min(history.validation):.4g} in epoch 3",
        "fit(..., checkpoint=..., resume=True) goes on with it",
        f"pygru checkpoint, {path.stat().st_size:,} bytes on disk",
    ]


def test_a_checkpoint_is_named_where_a_model_is_wanted(tmp_path, capsys):
    path = tmp_path / "training.safetensors"
    write_checkpoint(path, 1)
    told = "must be a file that save wrote, got a checkpoint of fit, which fit(..., checkpoint"
    for argv in (["bench", str(path)], ["convert", str(path), str(tmp_path / "model.onnx")]):
        assert cli.main(argv) == 1
        assert told in capsys.readouterr().err
    with pytest.raises(ValueError, match=re.escape(told)):
        pygru.load(path)


def test_info_on_a_corrupt_checkpoint_says_so(tmp_path, capsys):
    path = tmp_path / "training.safetensors"
    for metadata, told in (
        ({}, "it has no 'of'"),
        ({"of": "{}", "state": '{"epochs": []}'}, "it has no 'model'"),
        ({"of": "[]", "state": "3"}, ""),
    ):
        save_file({}, path, {"format": "pygru checkpoint", **metadata})
        assert cli.main(["info", str(path)]) == 1
        assert capsys.readouterr().err.startswith(f"pygru: checkpoint {path} is corrupt: {told}")


def test_an_empty_object_is_no_model(tmp_path, capsys):
    path = tmp_path / "empty.json"
    path.write_text("{}")
    assert cli.main(["info", str(path)]) == 1
    told = "must hold layers or a state_dict, got an empty object"
    assert capsys.readouterr().err == f"pygru: from_rtneural: {path}: {told}\n"


def test_convert_goes_from_any_format_to_any_other(tmp_path, capsys):
    ours = tmp_path / "gru.safetensors"
    after = pygru.Sequential(pygru.Linear(1, 3, rng=0), pygru.GRU(3, 4, 2, rng=0))
    after.save(ours)
    chain = ["a.onnx", "b.json", "c.onnx", "d.safetensors"]
    for source, target in zip([ours.name, *chain], chain, strict=False):
        assert cli.main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 0
        assert capsys.readouterr().out.endswith(f"{target}: 234 parameters of float32\n")
    assert np.array_equal(pygru.load(tmp_path / chain[-1]).flat_params, after.flat_params)


def test_convert_needs_to_be_told_what_weights_alone_are_weights_of(tmp_path, capsys):
    pytest.importorskip("h5py")
    ours, weights = tmp_path / "gru.safetensors", tmp_path / "gru.weights.h5"
    gru = pygru.GRU(3, 4, rng=0)
    pygru.save(gru, ours)
    assert cli.main(["convert", str(ours), str(weights)]) == 0
    back = tmp_path / "back.safetensors"
    assert cli.main(["convert", str(weights), str(back)]) == 1
    assert "needs into" in capsys.readouterr().err
    assert cli.main(["convert", str(weights), str(back), "--into", str(ours)]) == 0
    for command in (["info"], ["bench", "--seconds", "0.01"]):
        assert cli.main([*command, str(weights), "--into", str(ours)]) == 0
    assert np.array_equal(pygru.load(back).flat_params, gru.flat_params)


def test_convert_with_check_prints_the_difference_to_both_sides(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    source, target = tmp_path / "one.onnx", tmp_path / "two.onnx"
    formats.write(pygru.Sequential(pygru.GRU(3, 4, batch_first=True, rng=0)), source)
    assert cli.main(["convert", str(source), str(target), "--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    differences = [line for line in lines if "largest absolute difference to" in line]
    assert len(differences) == 3  # source, target, and target against what was read
    assert all(
        float(line.rpartition(" ")[2]) < TOLERANCES["interop"]["float32"] for line in differences
    )


def test_convert_refuses_what_cannot_be_written_before_it_reads(tmp_path, capsys):
    ours = tmp_path / "gru.safetensors"
    pygru.save(pygru.GRU(3, 4, reset="before"), ours)
    for target, message in (
        ("gru.txt", "the name must end in one of .safetensors, .pt"),
        ("gru.keras", "can be read, not written"),
        ("gru.json", "to_rtneural: model must be of GRU with reset='after'"),
    ):
        assert cli.main(["convert", str(ours), str(tmp_path / target)]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
        assert not (tmp_path / target).exists()


def test_bench_prints_latency_and_throughput(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    for modules, streamed in (
        ([pygru.GRU(3, 8, rng=0), pygru.Linear(8, 2)], True),
        ([pygru.Embedding(5, 3), pygru.GRU(3, 8, batch_first=True), pygru.LastStep()], True),
        ([pygru.GRU(3, 8), pygru.MeanOverTime()], False),
        ([pygru.Linear(1, 3), pygru.RepeatVector(4), pygru.RNN(3, 8)], False),
    ):
        pygru.Sequential(*modules).save(path)
        assert cli.main(["bench", str(path), "--seconds", "0.01"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert ("through Stream" in lines[1]) is streamed
        assert all(" us (99 of 100 within " in line for line in lines[1 if streamed else 2 :])
        assert len(lines) == 4


def test_bench_takes_the_time_that_it_is_given(tmp_path, monkeypatch):
    path, seconds = tmp_path / "model.safetensors", []
    pygru.save(pygru.GRU(3, 8, rng=0), path)
    monkeypatch.setattr(cli, "_print_time", lambda *given: seconds.append(given[-1]))
    assert cli.main(["bench", str(path), "--seconds", "9"]) == 0
    assert seconds == [9.0] * 3


def test_bench_divides_the_steps_by_the_median(capsys):
    cli._print_time("naps", lambda: time.sleep(1e-3), 7, 0.01)
    median, _, rate = re.findall(r"[\d,]+\.?\d*(?= us| steps)", capsys.readouterr().out)
    assert float(rate.replace(",", "")) == pytest.approx(7e6 / float(median.replace(",", "")), 1e-3)


def test_ctrl_c_is_a_line_and_the_exit_code_that_shells_give_it(capsys, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(formats, "kind_of", press)
    assert cli.main(["info", "model.onnx"]) == 130
    assert capsys.readouterr().err == "pygru: interrupted\n"


def test_bench_counts_the_steps_that_a_model_makes_of_a_vector(tmp_path, capsys, monkeypatch):
    path, counted = tmp_path / "model.safetensors", []
    model = pygru.Sequential(pygru.Linear(1, 3), pygru.RepeatVector(4), pygru.RNN(3, 8))
    pygru.Sequential(model, pygru.Linear(8, 1)).save(path)
    monkeypatch.setattr(
        cli, "_print_time", lambda what, _, steps, __: counted.append((what, steps))
    )
    assert cli.main(["bench", str(path)]) == 0
    assert "one step: cannot be streamed" in capsys.readouterr().out
    assert counted == [
        ("one sequence of 4 steps written", 4),
        ("100 sequences of 4 steps written", 400),
    ]


def encoder_decoder(classes):
    if classes:
        reads, writes = ([pygru.Embedding(K, 3, rng=0), pygru.GRU(3, 8, rng=0)] for K in (5, 6))
        writes.append(pygru.Linear(8, 5, rng=0))
        options = {"start": 5, "end": 0}
    else:
        reads, writes = ([pygru.GRU(width, 8, batch_first=True, rng=0)] for width in (3, 2))
        writes.append(pygru.Linear(8, 2, rng=0))
        options = {"start": [0.0, 1.0]}
    return pygru.EncoderDecoder(pygru.Sequential(*reads), pygru.Sequential(*writes), **options)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_bench_and_check_run_a_model_that_reads_and_writes(classes, tmp_path, capsys):
    path, copy = tmp_path / "model.safetensors", tmp_path / "copy.safetensors"
    encoder_decoder(classes).save(path)
    assert cli.main(["bench", str(path), "--seconds", "0.01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "one step: cannot be streamed" in lines[1]
    assert [line.partition(":")[0] for line in lines[2:]] == [
        "one sequence of 100 steps read, 100 written",
        "100 sequences of 100 steps read, 100 written",
    ]
    assert cli.main(["convert", str(path), str(copy), "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("on random input: 0.0e+00")


@pytest.mark.parametrize("cell", [pygru.GRUCell, pygru.RNNCell])
def test_bench_and_check_run_a_cell(cell, tmp_path, capsys):
    path, copy = tmp_path / "cell.safetensors", tmp_path / "copy.safetensors"
    pygru.save(cell(3, 8, rng=0), path)
    assert cli.main(["bench", str(path), "--seconds", "0.01"]) == 0
    told = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert told == ["one step", "one sequence of 1 step", "100 sequences of 1 step"]
    assert cli.main(["convert", str(path), str(copy), "--check"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("on random input: 0.0e+00")


def test_a_file_that_is_absent_or_not_ours_is_one_line_and_exit_1(tmp_path, capsys):
    garbage = tmp_path / "garbage.safetensors"
    garbage.write_bytes(b"not a model")
    for path in (tmp_path / "absent.safetensors", garbage):
        assert cli.main(["info", str(path)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("pygru: ")
        assert path.name in err
        assert err.count("\n") == 1


def test_an_error_that_shows_a_model_is_one_line_too(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    encoder_decoder(True).save(path)
    assert cli.main(["convert", str(path), str(tmp_path / "model.onnx")]) == 1
    err = capsys.readouterr().err
    assert "must be of modules that ONNX has, got EncoderDecoder( Sequential( Embedding(" in err
    assert err.count("\n") == 1


def test_version_is_the_package_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.split() == ["pygru", pygru.__version__]


def test_the_command_is_installed_and_works_from_any_folder(tmp_path):
    command = shutil.which("pygru", path=sysconfig.get_path("scripts"))
    if command is None:
        pytest.skip("pygru is not installed in this environment")
    done = subprocess.run([command, "example"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "sine" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_help_needs_nothing_optional(python):
    code = "import sys; from pygru.cli import main; main(['example']); print(*sys.modules)"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "matplotlib" not in done.stdout.split()

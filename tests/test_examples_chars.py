# SPDX-License-Identifier: MIT
"""What the example `chars` says of itself: an honest measure, and a page of text.

The same for all examples is in test_examples.py.
"""

from __future__ import annotations

import argparse
import re

import numpy as np
import pytest
from tolerances import assert_close

import pygru
from pygru.examples import chars

SMALL = ["--epochs", "1", "--hidden", "8", "--characters", "5000", "--threads", "1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, write little, and leave the thread count as it was."""
    threads = pygru.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chars, "PAGE", 100)
    yield
    pygru.set_num_threads(threads)


def run(*options):
    parser = argparse.ArgumentParser()
    chars.add_arguments(parser)
    chars.run(parser.parse_args([*SMALL, "--no-plot", *options]))


def model(K, H=12):
    gru = pygru.GRU(4, H, batch_first=True, rng=1)
    return pygru.Sequential(pygru.Embedding(K, 4, rng=0), gru, pygru.Linear(H, K, rng=2))


def test_the_text_is_large_and_always_the_same():
    text = chars.topics()
    assert len(text) > 300_000
    assert text == chars.topics()
    assert set(chars.PROMPT) <= set(text)


def test_it_says_what_it_did(capsys, tmp_path):
    run()
    out = capsys.readouterr().out
    assert "4,500 characters to learn from, 500 held out" in out
    found = re.search(r"bits per held-out character:\n  network, after training: (\d\.\d+)\n", out)
    assert found is not None
    assert 3 < float(found[1]) < np.log2(128)  # hardly trained, but better than no model at all
    found = re.search(r"xz -9, .* alone: (\d\.\d+)\n  xz -9, after .*: (\d\.\d+)\n", out)
    assert found is not None
    assert float(found[2]) < float(found[1])
    assert re.search(r"network, learning on while it reads: \d\.\d+", out)
    assert re.search(r"training took \d+ s with 1 thread", out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chars.safetensors", "chars.txt"]


def test_it_writes_a_page_in_the_alphabet_of_the_text(tmp_path):
    run()
    page = (tmp_path / "chars.txt").read_text(encoding="utf-8")
    assert page.startswith(chars.PROMPT)
    assert len(page) == len(chars.PROMPT) + chars.PAGE
    assert set(page) <= set(chars.topics())


def test_the_held_out_text_decides_nothing(monkeypatch):
    text, weights = chars.topics()[:5000], []
    for held_out in (text[4500:], text[4499:3999:-1]):
        whole = text[:4500] + held_out + "".join(sorted(set(text)))  # one alphabet for both
        monkeypatch.setattr(chars, "topics", lambda whole=whole: whole)
        run("--epochs", "2")
        weights.append(pygru.load("chars.safetensors").flat_params)
    assert np.array_equal(*weights)


def test_the_smallest_text_is_enough(tmp_path):
    run("--characters", str(chars.LEAST))
    assert (tmp_path / "chars.txt").exists()


def test_a_character_that_is_not_in_the_alphabet_is_named():
    alphabet = np.array(["a", "c", "d"])
    assert chars.encode("dad", alphabet).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="text must be in the alphabet's characters, got 'b'"):
        chars.encode("dab", alphabet)


def test_it_learns_a_text_that_can_be_learned(monkeypatch, capsys):
    whole = "".join(sorted(set(chars.PROMPT))) + "to be or not to be; " * 400
    monkeypatch.setattr(chars, "topics", lambda: whole)
    run("--characters", "8000", "--epochs", "8", "--hidden", "32", "--lr", "0.02")
    found = re.search(r"network, after training: (\d\.\d+)", capsys.readouterr().out)
    assert found is not None
    assert float(found[1]) < 0.5  # its characters by themselves: 2.9


def test_the_loss_and_its_gradient_are_in_bits():
    rng = np.random.default_rng(0)
    y, target = rng.normal(size=(2, 5, 7)), rng.integers(7, size=(2, 5))
    bits, dy = chars.in_bits(y, target)
    nats, dy_in_nats = pygru.losses.cross_entropy(y, target)
    assert_close(bits * np.log(2), nats, "rounding")
    assert_close(dy * np.log(2), dy_in_nats, "rounding")


def test_surprise_is_the_cross_entropy_in_bits():
    codes = np.random.default_rng(0).integers(7, size=50)
    net = model(7)
    nats, _ = pygru.losses.cross_entropy(net(codes[None, :-1]), codes[None, 1:])
    bits = chars.surprise(net, codes)
    assert bits.shape == (49,)
    assert_close(np.float32(bits.mean() * np.log(2)), nats, "reference")


def test_surprise_looks_at_the_past_alone():
    codes = np.random.default_rng(0).integers(7, size=50)
    net = model(7)
    assert np.array_equal(chars.surprise(net, codes)[:30], chars.surprise(net, codes[:31]))


def test_surprise_of_what_an_untrained_model_calls_equally_probable():
    net = model(8)
    net.params["2.weight"].fill(0)
    net.params["2.bias"].fill(0)
    assert np.allclose(chars.surprise(net, np.arange(8)), 3.0)


def test_xz_pays_little_for_what_it_has_seen():
    text = chars.topics()[:20_000]
    assert chars.xz(text + text) - chars.xz(text) < chars.xz(text) / 10

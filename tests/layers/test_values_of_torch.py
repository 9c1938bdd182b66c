"""Convolutions, pools, norms, recurrent layers and attention give PyTorch's values.

As references/image_references.py and references/sequence_references.py stored them.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import funcnet as fn

FOLDER = pathlib.Path(__file__).parent.parent / "references"
STORED = {}
for kind in ("image", "sequence"):
    STORED |= json.loads((FOLDER / f"{kind}_references.json").read_text())
LAYERS = {
    "Conv1d": fn.Conv(4, 6, (3,), stride=2, padding=((1, 1),), dilation=2, groups=2),
    "Conv2d": fn.Conv(4, 2, (3, 2), stride=(2, 1), padding=((1, 1), (2, 2)), dilation=(1, 2)),
    "Conv2d, depthwise": fn.Conv(3, 6, (2, 2), padding="VALID", groups=3, bias=False),
    "Conv3d": fn.Conv(2, 2, (1, 2, 3), stride=(1, 2, 1), padding=((0, 0), (1, 1), (1, 1)), groups=2),
    "ConvTranspose2d": fn.ConvTranspose(
        4, 6, (3, 2), stride=(2, 3), padding=((1, 1), (0, 0)), dilation=(1, 2), groups=2
    ),
    "MaxPool2d": fn.MaxPool((3, 2), stride=(2, 1), padding=((1, 1), (0, 0))),
    "AvgPool2d": fn.AvgPool((3, 2), stride=(2, 1), padding=((1, 1), (1, 1))),
    "GroupNorm": fn.GroupNorm(4, 2),
    "BatchNorm2d": fn.FrozenBatchNorm(3),
    "GRU": fn.GRU(3, 2),
    "LSTM": fn.LSTM(3, 2),
    "scaled_dot_product_attention, causal": fn.Attention(4, 2, block=3),
    "scaled_dot_product_attention": fn.Attention(4, 2, causal=False),
    "scaled_dot_product_attention, grouped": fn.Attention(8, 4, 2),
}


@jax.jit
def by_hand(layer, params, x, delta):
    y, tape = layer.forward(params, x)
    input_delta, deltas = layer.backward(params, tape, delta)
    return y, input_delta, layer.gradient(tape, deltas)


def same(found, expected):
    expected = np.array(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_every_stored_layer_is_compared():
    assert set(LAYERS) == {name for name, entry in STORED.items() if "input_delta" in entry}


@pytest.mark.fast
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_of_torch(name):
    stored = STORED[name]
    params = {leaf: jnp.array(values) for leaf, values in stored["params"].items()} or ()
    y, input_delta, grads = by_hand(LAYERS[name], params, jnp.array(stored["x"]), jnp.array(stored["delta"]))
    same(y, stored["y"])
    same(input_delta, stored["input_delta"])
    assert set(grads) - {"mean", "var"} == set(stored["grads"])
    for leaf, expected in stored["grads"].items():
        same(grads[leaf], expected)

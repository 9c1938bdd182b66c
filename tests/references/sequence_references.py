"""Ask PyTorch about layers for sequences: `python tests/references/sequence_references.py`.

Writes sequence_references.json beside this file, for tests/layers/test_values_of_torch.py. Needs numpy and torch. Run
it again after a change here, or to try newer versions: last digits may differ.

Everything is in float64 and in funcnet's layout. Of a recurrent layer w and u are PyTorch's weight_ih and weight_hh
transposed. Its two biases stand for one, their sum, except for the candidate n of the GRU, where that of the state is
multiplied by r: c. Of attention, x is queries, keys and values side by side, each head after the other. The file holds
for each layer x, its parameters, δ, the output, and the gradients of Σ δ ⊙ y by x and by each parameter.
"""

import importlib.metadata
import json
import pathlib

import numpy as np
import torch
from torch import nn

N_IN, N_OUT, M, T = 3, 2, 2, 4
RECURRENT = {"GRU": nn.GRU, "LSTM": nn.LSTM}
ATTENTION = {  # heads, heads of keys, causal
    "scaled_dot_product_attention, causal": (2, 2, True),
    "scaled_dot_product_attention": (2, 2, False),
    "scaled_dot_product_attention, grouped": (4, 2, True),
}
D = 2


def drawn(draw: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(draw.normal(size=shape).round(3))


def lists(arrays: dict[str, torch.Tensor]) -> dict[str, list]:
    return {name: a.detach().numpy().tolist() for name, a in arrays.items()}


def named(layer: nn.Module, of) -> dict[str, torch.Tensor]:
    """What `of` gives of each parameter, under funcnet's names and in its layout."""
    w, u, b, from_h = (of(getattr(layer, f"{name}_l0")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return {"w": w.T, "u": u.T, "b": b, "c": from_h[2 * N_OUT :]}


def of_recurrent(kind: type[nn.Module], draw: np.random.Generator) -> dict:
    layer = kind(N_IN, N_OUT, batch_first=True).double()
    with torch.no_grad():
        for leaf in layer.parameters():
            leaf.copy_(drawn(draw, *leaf.shape))
    x = drawn(draw, M, T, N_IN).requires_grad_()
    y, _ = layer(x)
    delta = drawn(draw, *y.shape)
    y.backward(delta)
    params, grads = named(layer, lambda leaf: leaf), named(layer, lambda leaf: leaf.grad)
    more = layer.bias_hh_l0.clone()
    if kind is nn.GRU:
        more[2 * N_OUT :] = 0
    else:
        del params["c"], grads["c"]
    params["b"] = params["b"] + more
    arrays = {"x": x, "delta": delta, "y": y, "input_delta": x.grad}
    return lists(arrays) | {"params": lists(params), "grads": lists(grads)}


def of_attention(heads: int, keys: int, causal: bool, draw: np.random.Generator) -> dict:
    x = drawn(draw, M, T, (heads + 2 * keys) * D).requires_grad_()
    parts = x.split([heads * D, keys * D, keys * D], -1)
    q, k, v = (part.reshape(M, T, -1, D).transpose(1, 2) for part in parts)
    o = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=keys < heads)
    y = o.transpose(1, 2).reshape(M, T, heads * D)
    delta = drawn(draw, *y.shape)
    y.backward(delta)
    return lists({"x": x, "delta": delta, "y": y, "input_delta": x.grad}) | {"params": {}, "grads": {}}


def main() -> None:
    torch.set_num_threads(1)  # sums in one order, so that the file comes out the same again
    draw = np.random.default_rng(0)
    entries: dict = {"versions": {"torch": importlib.metadata.version("torch")}}
    entries |= {name: of_recurrent(kind, draw) for name, kind in RECURRENT.items()}
    entries |= {name: of_attention(*choices, draw) for name, choices in ATTENTION.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(f"{{\n{lines}\n}}\n")
    print(f"{path.name}: {path.stat().st_size} bytes, from {entries['versions']}")


if __name__ == "__main__":
    main()

"""Ask PyTorch, Opacus and BackPACK about layers for images: `python tests/references/image_references.py`.

Writes image_references.json beside this file, for tests/layers/test_values_of_torch.py and
tests/per_example/test_image_values_of_peers.py. Needs numpy, torch, opacus and backpack-for-pytorch. Run it again after
a change here, or to try newer versions: last digits may differ.

Everything is in float64. Arrays are turned from PyTorch's layout to funcnet's: features last; kernels from
(out, in/groups, *kernel), or those of transposed convolutions from (in, out/groups, *kernel), to
(*kernel, in/groups, out); the matrix behind `Flatten` to rows in the order (height, width, features). The file holds

- for each layer of `LAYERS` x, its parameters, δ, the output, and the gradients of Σ δ ⊙ y by x and by each parameter;
- for each network of `NETWORKS` data, weights, and the squared norms of the examples' gradients of the sum of
  cross-entropies: from Opacus, and for the one without groups from BackPACK (`BatchL2Grad`, a parameter at a time),
  with its `SumGradSquared` and the factors of `KFLR`, these of the mean cross-entropy.

Where Opacus' or BackPACK's norms are not those of a loop of autograd over single examples, this script stops.
"""

import importlib.metadata
import json
import pathlib
import warnings

import backpack
import numpy as np
import torch
from backpack import extensions
from opacus import GradSampleModule
from torch import nn

LAYERS = {  # how it is made, and its input's shape, features last
    "Conv1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (2, 7, 4)),
    "Conv2d": (lambda: nn.Conv2d(4, 2, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), (2, 5, 4, 4)),
    "Conv2d, depthwise": (lambda: nn.Conv2d(3, 6, 2, groups=3, bias=False), (2, 3, 4, 3)),
    "Conv3d": (lambda: nn.Conv3d(2, 2, (1, 2, 3), stride=(1, 2, 1), padding=(0, 1, 1), groups=2), (2, 2, 3, 3, 2)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), dilation=(1, 2), groups=2),
        (2, 3, 2, 4),
    ),
    "MaxPool2d": (lambda: nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)), (2, 5, 4, 2)),
    "AvgPool2d": (lambda: nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 1)), (2, 5, 4, 2)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (2, 3, 2, 4)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3).eval(), (2, 3, 2, 3)),
}

NETWORKS = {"plain": 1, "groups": 2}
EXAMPLES, CLASSES = 5, 3


def turned(values: torch.Tensor) -> np.ndarray:
    """Features last."""
    return np.moveaxis(values.detach().numpy(), 1, -1)


def kernel(values: torch.Tensor, layer: nn.Module) -> np.ndarray:
    """(*kernel, in/groups, out) of a convolution's kernel, or of something of its shape."""
    values = values.detach().numpy()
    if isinstance(layer, nn.ConvTranspose2d):  # the groups' blocks stand one under the other
        values = np.concatenate([part.swapaxes(0, 1) for part in np.split(values, layer.groups)])
    return np.moveaxis(values, (0, 1), (-1, -2))


def named(layer: nn.Module, of) -> dict[str, list]:
    """What `of` gives of each parameter, under funcnet's names and in its layout."""
    convolution = layer.weight.ndim > 1
    leaves = {"w" if convolution else "g": layer.weight, "b": layer.bias}
    found = {name: of(leaf) for name, leaf in leaves.items() if leaf is not None}
    return {name: (kernel(v, layer) if name == "w" else v.detach().numpy()).tolist() for name, v in found.items()}


def of_layer(make, shape: tuple[int, ...], draw: np.random.Generator) -> dict:
    layer = make().double()
    x = torch.from_numpy(np.moveaxis(draw.normal(size=shape).round(3), -1, 1).copy()).requires_grad_()
    with torch.no_grad():
        for name, leaf in layer.named_parameters():
            start = 1 if name == "weight" and leaf.ndim == 1 else 0
            leaf.copy_(torch.from_numpy((start + 0.5 * draw.normal(size=leaf.shape)).round(3)))
        entry = {}
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(torch.from_numpy(draw.normal(size=3).round(3)))
            layer.running_var.copy_(torch.from_numpy(draw.uniform(0.2, 2, size=3).round(3)))
            entry = {"mean": layer.running_mean.tolist(), "var": layer.running_var.tolist()}
    y = layer(x)
    delta = torch.from_numpy(draw.normal(size=y.shape).round(3))
    y.backward(delta)
    params = named(layer, lambda leaf: leaf) if hasattr(layer, "weight") else {}
    grads = named(layer, lambda leaf: leaf.grad) if hasattr(layer, "weight") else {}
    arrays = {"x": x, "delta": delta, "y": y, "input_delta": x.grad}
    return {name: turned(a).tolist() for name, a in arrays.items()} | {"params": params | entry, "grads": grads}


def network(groups: int) -> nn.Sequential:
    """A convolution (2 features to 4, 6 × 5 positions to 3 × 3), ReLU and 3 classes."""
    conv = nn.Conv2d(2, 4, (3, 2), stride=2, padding=(1, 1), dilation=(1, 2), groups=groups)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 3, CLASSES)).double()


def rows(matrix: torch.Tensor) -> np.ndarray:
    """Of the matrix behind `Flatten`, or of something of its shape, (from, to)."""
    return matrix.detach().numpy().reshape(CLASSES, 4, 3, 3).transpose(2, 3, 1, 0).reshape(36, CLASSES)


def each(net: nn.Sequential, x: torch.Tensor, labels: torch.Tensor) -> list[list[torch.Tensor]]:
    """Every example's gradient by autograd, a parameter at a time."""
    grads = []
    for one, label in zip(x, labels):
        net.zero_grad()
        nn.functional.cross_entropy(net(one[None]), label[None], reduction="sum").backward()
        grads.append([leaf.grad.clone() for leaf in net.parameters()])
    return grads


def of_network(groups: int, draw: np.random.Generator) -> dict:
    net = network(groups)
    with torch.no_grad():
        for leaf in net.parameters():
            leaf.copy_(torch.from_numpy((0.5 * draw.normal(size=leaf.shape)).round(3)))
    x = torch.from_numpy(draw.normal(size=(EXAMPLES, 2, 6, 5)).round(3))
    labels = torch.from_numpy(draw.integers(0, CLASSES, EXAMPLES))
    conv, dense = net[0], net[3]
    own = each(net, x, labels)
    entry = {
        "x": turned(x).tolist(),
        "labels": labels.tolist(),
        "params": [kernel(conv.weight, conv).tolist(), conv.bias.tolist(), rows(dense.weight).tolist()],
    }
    entry["params"].append(dense.bias.tolist())
    squares = torch.stack([torch.stack([(g * g).sum() for g in grads]) for grads in own], 1)

    sampled = network(groups)
    sampled.load_state_dict(net.state_dict())
    sampled = GradSampleModule(sampled)
    nn.functional.cross_entropy(sampled(x), labels).backward()  # Opacus multiplies by m what a mean divided
    found = sum(leaf.grad_sample.flatten(1).square().sum(1) for leaf in sampled.parameters())
    torch.testing.assert_close(found, squares.sum(0), rtol=1e-12, atol=0)
    entry["opacus_squares"] = found.tolist()

    if groups == 1:
        net, loss = backpack.extend(net), backpack.extend(nn.CrossEntropyLoss())
        net.zero_grad()
        value = loss(net(x), labels)
        with backpack.backpack(extensions.BatchL2Grad(), extensions.SumGradSquared(), extensions.KFLR()):
            value.backward()
        parameters = list(net.parameters())
        norms = torch.stack([leaf.batch_l2 for leaf in parameters])
        torch.testing.assert_close(norms, squares / EXAMPLES**2, rtol=1e-12, atol=0)
        entry["batch_l2"] = norms.tolist()
        sums = [leaf.sum_grad_squared for leaf in parameters]
        for leaf, *grads in zip(sums, *own):
            torch.testing.assert_close(leaf, sum(g * g for g in grads) / EXAMPLES**2, rtol=1e-12, atol=0)
        entry["sum_grad_squared"] = [kernel(sums[0], conv).tolist(), sums[1].tolist()]
        entry["sum_grad_squared"] += [rows(sums[2]).tolist(), sums[3].tolist()]
        g, a = conv.weight.kflr
        a = a.reshape(2, 3, 2, 2, 3, 2).permute(1, 2, 0, 4, 5, 3).reshape(12, 12)  # (features, *kernel) turned
        entry["kflr"] = [g.tolist(), a.tolist(), conv.bias.kflr[0].tolist(), dense.weight.kflr[0].tolist()]
    return entry


def main() -> None:
    warnings.filterwarnings("ignore", message="Full backward hook")
    torch.set_num_threads(1)  # sums in one order, so that the file comes out the same again
    draw = np.random.default_rng(0)
    packages = ("torch", "opacus", "backpack-for-pytorch")
    entries: dict = {"versions": {name: importlib.metadata.version(name) for name in packages}}
    entries |= {name: of_layer(make, shape, draw) for name, (make, shape) in LAYERS.items()}
    entries |= {f"network, {name}": of_network(groups, draw) for name, groups in NETWORKS.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(f"{{\n{lines}\n}}\n")
    print(f"{path}: {path.stat().st_size} bytes, from {entries['versions']}")


if __name__ == "__main__":
    main()

"""Ask Opacus and BackPACK about one small network: `python tests/references/per_example_references.py`.

Writes per_example_references.json beside this file, for tests/test_same_values.py. Needs numpy, torch, opacus
and backpack-for-pytorch. Run it again after a change here, or to try newer versions: last digits may differ.

The network: 4 inputs, 5 tanh, 4 sigmoid, 3 outputs; 8 examples; float64 throughout. Every number is as the library
gives it for the mean loss that PyTorch has: `CrossEntropyLoss()`, the mean over examples, and `MSELoss()`, the mean
over all entries of the squared difference. Nothing is converted here, matrices are only turned to funcnet's
(from, to). The file holds the data, the weights, and for each loss

- from Opacus the norms of the examples' gradients and their clipped sum. It also has the case of examples with 2
  positions each;
- from BackPACK `BatchL2Grad`, `SumGradSquared`, `Variance`, `DiagGGNExact` and the factors of `KFLR`.
"""

import importlib.metadata
import itertools
import json
import pathlib
import warnings

import backpack
import numpy as np
import torch
from backpack import extensions
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer

SIZES, EXAMPLES, POSITIONS = (4, 5, 4, 3), 8, 2

Leaves = list[list]


def network(initial: list[np.ndarray]) -> torch.nn.Sequential:
    """The network with these weights. PyTorch keeps a layer's matrix as (to, from)."""
    dense = [torch.nn.Linear(n_in, n_out, dtype=torch.float64) for n_in, n_out in itertools.pairwise(SIZES)]
    with torch.no_grad():
        for layer, w, b in zip(dense, initial[::2], initial[1::2], strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    return torch.nn.Sequential(dense[0], torch.nn.Tanh(), dense[1], torch.nn.Sigmoid(), dense[2])


def turned(value: torch.Tensor) -> list:
    """A parameter's quantity as funcnet has it: a matrix (from, to)."""
    return value.detach().numpy().T.tolist()


def from_opacus(loss: torch.nn.Module, initial: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> dict:
    """Norms of g_i, and Σ_i g_i min(1, max_norm / (‖g_i‖ + 10⁻⁶)). Opacus multiplies by m what a mean loss divided."""
    net = GradSampleModule(network(initial))
    parameters = list(net.parameters())
    loss(net(torch.from_numpy(x)), torch.from_numpy(y)).backward()
    squares = sum(leaf.grad_sample.flatten(1).square().sum(1) for leaf in parameters)
    norms = squares.sqrt()
    max_norm = float(f"{norms.median():.3g}")  # so that about half of them are clipped
    optimizer = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0), noise_multiplier=0.0, max_grad_norm=max_norm, expected_batch_size=len(x)
    )
    optimizer.clip_and_accumulate()
    clipped = [turned(leaf.summed_grad) for leaf in parameters]
    return {"norms": norms.tolist(), "max_norm": max_norm, "clipped_sum": clipped}


def from_backpack(loss: torch.nn.Module, initial: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> dict:
    net, loss = backpack.extend(network(initial)), backpack.extend(loss)
    value = loss(net(torch.from_numpy(x)), torch.from_numpy(y))
    asked = extensions.BatchL2Grad(), extensions.SumGradSquared(), extensions.Variance()
    with backpack.backpack(*asked, extensions.DiagGGNExact(), extensions.KFLR()):
        value.backward()
    parameters = list(net.parameters())
    found: dict[str, Leaves] = {"batch_l2": [leaf.batch_l2.tolist() for leaf in parameters]}
    for name in ("sum_grad_squared", "variance", "diag_ggn_exact"):
        found[name] = [turned(getattr(leaf, name)) for leaf in parameters]
    found["kflr"] = [[factor.tolist() for factor in leaf.kflr] for leaf in parameters]  # G and A; of a bias G
    return found


def main() -> None:
    warnings.filterwarnings("ignore", message="Full backward hook")
    torch.set_num_threads(1)  # sums in one order, so that the file comes out the same again
    draw = np.random.default_rng(0)
    initial = [
        leaf.round(3)
        for n_in, n_out in itertools.pairwise(SIZES)
        for leaf in (draw.normal(size=(n_in, n_out)), draw.normal(scale=0.3, size=n_out))
    ]
    data = {
        "x": draw.normal(size=(EXAMPLES, SIZES[0])).round(3),
        "labels": draw.integers(0, SIZES[-1], EXAMPLES),
        "heights": draw.normal(size=(EXAMPLES, SIZES[-1])).round(3),
        "sequences": draw.normal(size=(EXAMPLES, POSITIONS, SIZES[0])).round(3),
        "sequence_heights": draw.normal(size=(EXAMPLES, POSITIONS, SIZES[-1])).round(3),
    }
    classes = torch.nn.CrossEntropyLoss(), initial, data["x"], data["labels"]
    heights = torch.nn.MSELoss(), initial, data["x"], data["heights"]
    sequences = torch.nn.MSELoss(), initial, data["sequences"], data["sequence_heights"]
    entries = {
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "opacus", "backpack-for-pytorch")},
        **{name: value.tolist() for name, value in data.items()},
        "initial": [leaf.tolist() for leaf in initial],
        "Opacus, cross-entropy": from_opacus(*classes),
        "Opacus, squared error": from_opacus(*heights),
        "Opacus, squared error, positions": from_opacus(*sequences),
        "BackPACK, cross-entropy": from_backpack(*classes),
        "BackPACK, squared error": from_backpack(*heights),
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(f"{{\n{lines}\n}}\n")
    print(f"{path}: {path.stat().st_size} bytes, from {entries['versions']}")


if __name__ == "__main__":
    main()

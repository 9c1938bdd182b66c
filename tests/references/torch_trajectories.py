"""Train one small network with PyTorch and write down the way it goes: `python tests/references/torch_trajectories.py`.

Writes torch_trajectories.json beside this file, for tests/test_same_as_others.py. Needs numpy and
torch only. Run it again after a change here, or to try a newer PyTorch: its last digits may differ.

The network: 6 inputs, 8 tanh, 5 ReLU, 3 logits; softmax cross-entropy; float64. The file holds the
data, the rows of every batch (the last of each epoch is smaller), the initial weights as funcnet
orders them (from, to), and for every optimiser the cost before each step, the sum of squares of
every parameter after it (w, b of each layer in turn), and all parameters after the last step.
"""

import itertools
import json
import pathlib

import numpy as np
import torch

SIZES, EXAMPLES, BATCH_SIZE, STEPS = (6, 8, 5, 3), 30, 8, 50

OPTIMIZERS = {
    # name: (how it is made, the strength α of a penalty α Σ w² on weights)
    "SGD": (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), 0.0),
    "SGD, Nesterov": (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True), 0.0),
    "Adam": (lambda params: torch.optim.Adam(params, lr=0.02), 0.0),
    "Adam, L2": (lambda params: torch.optim.Adam(params, lr=0.02), 0.01),
    "AdamW": (lambda params: torch.optim.AdamW(params, lr=0.02, weight_decay=0.1), 0.0),
}


def batches(draw: np.random.Generator) -> list[list[int]]:
    """The rows of every step: all examples once per epoch, in a new order each."""
    rows: list[list[int]] = []
    while len(rows) < STEPS:
        order = draw.permutation(EXAMPLES).tolist()
        rows += [order[start : start + BATCH_SIZE] for start in range(0, EXAMPLES, BATCH_SIZE)]
    return rows[:STEPS]


def network(initial: list[list[np.ndarray]]) -> torch.nn.Sequential:
    """The network with these weights. PyTorch keeps a layer's matrix as (to, from)."""
    dense = [torch.nn.Linear(n_in, n_out, dtype=torch.float64) for n_in, n_out in itertools.pairwise(SIZES)]
    with torch.no_grad():
        for layer, (w, b) in zip(dense, initial, strict=True):
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
    return torch.nn.Sequential(dense[0], torch.nn.Tanh(), dense[1], torch.nn.ReLU(), dense[2])


def parameters(net: torch.nn.Sequential) -> list[np.ndarray]:
    """w (from, to) and b of each layer in turn."""
    dense = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return [leaf.detach().numpy().T.copy() for layer in dense for leaf in (layer.weight, layer.bias)]


def trajectory(name: str, x: np.ndarray, labels: np.ndarray, rows: list[list[int]], initial: list) -> dict:
    make, strength = OPTIMIZERS[name]
    net = network(initial)
    optimizer = make(net.parameters())
    costs, squares = [], []
    for step in rows:
        output = net(torch.from_numpy(x[step]))
        cost = torch.nn.functional.cross_entropy(output, torch.from_numpy(labels[step]))
        weights = [leaf for key, leaf in net.named_parameters() if key.endswith("weight")]
        cost = cost + strength * sum((w * w).sum() for w in weights)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
        squares.append([float((leaf * leaf).sum()) for leaf in parameters(net)])
    last = [leaf.tolist() for leaf in parameters(net)]
    return {"penalty": strength, "costs": costs, "squares": squares, "last": last}


def main() -> None:
    torch.set_num_threads(1)  # sums in one order, so that the file comes out the same again
    draw = np.random.default_rng(0)
    x = draw.normal(size=(EXAMPLES, SIZES[0])).round(3)
    labels = draw.integers(0, SIZES[-1], EXAMPLES)
    rows = batches(draw)
    initial = [
        [draw.normal(scale=n_in**-0.5, size=(n_in, n_out)).round(3), draw.normal(scale=0.1, size=n_out).round(3)]
        for n_in, n_out in itertools.pairwise(SIZES)
    ]
    entries = {
        "torch": torch.__version__,
        "x": x.tolist(),
        "labels": labels.tolist(),
        "batches": rows,
        "initial": [leaf.tolist() for layer in initial for leaf in layer],
        **{name: trajectory(name, x, labels, rows, initial) for name in OPTIMIZERS},
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(f"{{\n{lines}\n}}\n")
    print(f"{path}: {len(OPTIMIZERS)} trajectories of {STEPS} steps, {path.stat().st_size} bytes")
    for name in OPTIMIZERS:
        print(
            f"  {name}: cost {entries[name]['costs'][0]:.6f} before, {entries[name]['costs'][-1]:.6f} at the last step"
        )


if __name__ == "__main__":
    main()

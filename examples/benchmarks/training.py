"""Seconds per epoch of the same training by funcnet, by other libraries and by hand.

Every one of them takes all examples once an epoch, in a new order, the smaller last batch included: a dense
network with ReLU, cross-entropy, Adam, float32, initial weights as each library draws them. All are measured
in one run, interleaved: once a round each, in an order drawn anew for each. With funcnet installed,
from the repository's root:

    python examples/benchmarks/training.py                        all three networks, a quarter of an hour or so
    python examples/benchmarks/training.py --quick                few rows and rounds: does it run?
    python examples/benchmarks/training.py --networks 128 --json figures.json

    fn.fit          one call for as many epochs as a turn has, its set-up included, nothing recorded but the cost
    fn.train_epoch  called in a Python loop
    raw JAX scan    written below for this network alone: jax.value_and_grad of a plain cost, one jitted lax.scan
                    an epoch, called in a Python loop. Its second copy, traced and compiled apart, shows how much
                    the measurement itself varies.
    Equinox + optax, Flax NNX
                    a jitted step as in their documentation, in a Python loop over shuffled batches, which NumPy
                    gathers. Flax's step by nnx.cached_partial, as its performance guide advises.
    PyTorch         on the CPU, eager: zero_grad, backward and Adam's step in a Python loop over shuffled batches,
                    gathered by index from tensors in memory. No DataLoader, no torch.compile. With one thread or
                    as many as it takes by itself, whichever was faster in an epoch before the timed rounds.
    scikit-learn    MLPClassifier.fit: 1 + k epochs less 1 epoch, so that its set-up does not count

Libraries that are not installed are left out.
"""

import importlib
import warnings
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from clocks import (
    LEARNING_RATE,
    LOSS,
    Case,
    Data,
    Run,
    against,
    chosen_cases,
    epochs_to_fill,
    interleaved,
    lengths,
    load,
    machine,
    parser_of_cases,
    per_epoch,
    seconds,
    write,
)

import funcnet as fn

# One training each. What a builder gives back is compiled and warm after its first epoch.


def funcnet_training(case: Case, data: Data) -> tuple[Run, Run]:
    """fn.fit and fn.train_epoch."""
    net, optimizer = fn.mlp(case.sizes, fn.ReLU()), optax.adam(LEARNING_RATE)
    x, y = jax.device_put(data)
    first = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))

    def fit(epochs: int) -> None:
        state, _ = fn.fit(net, LOSS, optimizer, first, (x, y), epochs=epochs, batch_size=case.batch_size)
        jax.block_until_ready(state)

    def by_epoch(epochs: int) -> None:
        state = first
        for _ in range(epochs):
            state, _ = fn.train_epoch(net, LOSS, optimizer, state, (x, y), batch_size=case.batch_size)
        jax.block_until_ready(state)

    return fit, by_epoch


def raw_jax(case: Case, data: Data) -> Run:
    optimizer, m, size = optax.adam(LEARNING_RATE), case.rows, case.batch_size
    steps, padded = -(-m // size), m % size > 0
    x, y = jax.device_put(data)
    params = {}
    for i, (n_in, n_out) in enumerate(pairwise(case.sizes)):
        w = jax.random.normal(jax.random.key(i), (n_in, n_out)) / n_in**0.5
        params[str(i)] = {"w": w, "b": jnp.zeros(n_out)}

    def cost(params: Any, x: jax.Array, y: jax.Array, counted: jax.Array) -> jax.Array:
        *hidden, last = params.values()
        for layer in hidden:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        costs = optax.softmax_cross_entropy_with_integer_labels(x @ last["w"] + last["b"], y)
        return (counted * costs).sum() / counted.sum() if padded else costs.mean()

    @jax.jit
    def epoch(params: Any, opt_state: Any, key: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        def step(carry: Any, batch: Any) -> Any:
            params, opt_state = carry
            rows, counted = batch
            value, grads = jax.value_and_grad(cost)(params, x[rows], y[rows], counted)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), value * counted.sum()

        key, order_key = jax.random.split(key)
        order = jnp.concatenate([jax.random.permutation(order_key, m), jnp.zeros(steps * size - m, int)])
        counted = (jnp.arange(steps * size) < m).astype(x.dtype)
        rows_and_mask = order.reshape(steps, size), counted.reshape(steps, size)
        (params, opt_state), values = jax.lax.scan(step, (params, opt_state), rows_and_mask)
        return params, opt_state, key, values.sum() / m

    def run(epochs: int) -> None:
        state = params, optimizer.init(params), jax.random.key(1)
        for _ in range(epochs):
            *state, _ = epoch(*state, x, y)
        jax.block_until_ready(state)

    return run


def batches(random: np.random.Generator, m: int, batch_size: int) -> Iterator[np.ndarray]:
    order = random.permutation(m)
    return (order[start : start + batch_size] for start in range(0, m, batch_size))


def equinox_training(case: Case, data: Data) -> Run:
    import equinox as eqx

    x, y = data
    keys = jax.random.split(jax.random.key(0), len(case.sizes) - 1)
    layers: list[Any] = []
    for key, (n_in, n_out) in zip(keys, pairwise(case.sizes)):
        layers += [eqx.nn.Linear(n_in, n_out, key=key), eqx.nn.Lambda(jax.nn.relu)]
    model, optimizer, random = eqx.nn.Sequential(layers[:-1]), optax.adam(LEARNING_RATE), np.random.default_rng(1)

    @eqx.filter_value_and_grad
    def cost(model: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    @eqx.filter_jit
    def make_step(model: Any, opt_state: Any, x: jax.Array, y: jax.Array) -> Any:
        value, grads = cost(model, x, y)
        updates, opt_state = optimizer.update(grads, opt_state, model)
        return eqx.apply_updates(model, updates), opt_state, value

    def run(epochs: int) -> None:
        now, opt_state = model, optimizer.init(eqx.filter(model, eqx.is_inexact_array))
        for _ in range(epochs):
            for rows in batches(random, case.rows, case.batch_size):
                now, opt_state, _ = make_step(now, opt_state, x[rows], y[rows])
        jax.block_until_ready(opt_state)

    return run


def flax_training(case: Case, data: Data) -> Run:
    from flax import nnx

    x, y = data
    rngs, layers = nnx.Rngs(0), []
    for n_in, n_out in pairwise(case.sizes):
        layers += [nnx.Linear(n_in, n_out, rngs=rngs), nnx.relu]
    model, random = nnx.Sequential(*layers[:-1]), np.random.default_rng(1)
    optimizer = nnx.Optimizer(model, optax.adam(LEARNING_RATE), wrt=nnx.Param)

    @nnx.jit
    def train_step(model: Any, optimizer: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        def cost(model: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

        value, grads = nnx.value_and_grad(cost)(model)
        optimizer.update(model, grads)
        return value

    cached_step = nnx.cached_partial(train_step, model, optimizer)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for rows in batches(random, case.rows, case.batch_size):
                cached_step(x[rows], y[rows])
        jax.block_until_ready(nnx.state(model))

    return run


def pytorch_training(case: Case, data: Data) -> Run:
    import torch

    x, y = torch.from_numpy(data[0]), torch.from_numpy(data[1]).long()
    layers: list[Any] = []
    for n_in, n_out in pairwise(case.sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    model, cost = torch.nn.Sequential(*layers[:-1]), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)

    def run(epochs: int) -> None:
        for _ in range(epochs):
            for rows in torch.randperm(case.rows).split(case.batch_size):
                optimizer.zero_grad()
                cost(model(x[rows]), y[rows]).backward()
                optimizer.step()

    run(1)
    taken = {}
    for threads in sorted({torch.get_num_threads(), 1}, reverse=True):
        torch.set_num_threads(threads)
        taken[threads] = seconds(run, 1)
    torch.set_num_threads(min(taken, key=taken.get))
    return run


def sklearn_training(case: Case, data: Data) -> Run:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    def run(epochs: int) -> None:
        options = {"batch_size": case.batch_size, "learning_rate_init": LEARNING_RATE, "alpha": 0.0}
        never = {"tol": 0.0, "n_iter_no_change": 10**9}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it was not asked to converge
            MLPClassifier(case.sizes[1:-1], max_iter=epochs, random_state=0, **options, **never).fit(*data)

    return run


PEERS = {
    "Equinox + optax": ("equinox", equinox_training),
    "Flax NNX": ("flax", flax_training),
    "PyTorch": ("torch", pytorch_training),
    "scikit-learn": ("sklearn", sklearn_training),
}


# Measuring


def beyond_first(run: Run, epochs: int) -> float:
    return max((seconds(run, 1 + epochs) - seconds(run, 1)) / epochs, 1e-9)


def speed(case: Case, data: Data, rounds: int, turn: float) -> dict[str, Any]:
    """Seconds per epoch, and how many times those of fn.fit they are."""
    fit, by_epoch = funcnet_training(case, data)
    runs = {"fn.train_epoch": by_epoch, "raw JAX scan": raw_jax(case, data), "its second copy": raw_jax(case, data)}
    missing = []
    for name, (module, build) in PEERS.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(name)
            continue
        runs[name] = build(case, data)
    epochs = {name: epochs_to_fill(turn, run) for name, run in runs.items()}
    epochs = {"fn.fit": epochs["fn.train_epoch"]} | epochs
    fit(epochs["fn.fit"])
    clocks = {}
    for name, run in ({"fn.fit": fit} | runs).items():
        clocks[name] = partial(beyond_first if name == "scikit-learn" else per_epoch, run, epochs[name])
    found = interleaved(clocks, rounds)
    rows = {
        name: {"seconds": float(np.median(found[name])), "epochs": epochs[name], "ratio": list(ratios)}
        for name in found
        for ratios in [against(found, name, "fn.fit").tolist()]
    }
    noise = against(found, "its second copy", "raw JAX scan").tolist()
    raw = against(found, "fn.fit", "raw JAX scan").tolist()
    return {"rows": rows, "noise": noise, "fit/raw": raw, "missing": missing}


def print_speed(case: Case, what: str, found: dict[str, Any]) -> None:
    print(f"\n{case.name} ({what}), {case.sizes[0]} features")
    print(f"{'':<18} {'ms per epoch':>14} {'/ fn.fit':>9}   {'quartiles':<16} epochs a turn")
    for name, row in found["rows"].items():
        middle, low, high = row["ratio"]
        print(f"{name:<18} {1e3 * row['seconds']:14.2f} {middle:9.3f}   {f'{low:.3f}-{high:.3f}':<16} {row['epochs']}")
    for name in found["missing"]:
        print(f"{name:<18} {'not installed':>14}")
    peers = {name: found["rows"][name]["ratio"][0] for name in PEERS if name in found["rows"]}
    if peers:
        best = min(peers, key=peers.get)
        print(
            f"Best peer / fn.fit: {peers[best]:.2f} ({best}); goal {case.goal:g}: {verdict(peers[best] >= case.goal)}"
        )
    (raw, low, high), noise = found["fit/raw"], found["noise"]
    print(
        f"fn.fit / raw JAX scan: {raw:.3f} [{low:.3f}-{high:.3f}]; the scan against its second copy "
        f"{noise[0]:.3f} [{noise[1]:.3f}-{noise[2]:.3f}]; goal, not above its quartiles: {verdict(raw <= noise[2])}"
    )


def verdict(reached: bool) -> str:
    return "reached" if reached else "missed"


def main() -> None:
    options = parser_of_cases(__doc__, rounds=15, turn=1.0).parse_args()
    cases, on, results = chosen_cases(options), machine(), []
    for case in cases:
        data, _, what = load(case, options.data)
        results.append({"case": case.name, "data": what} | speed(case, data, *lengths(options)))
        print_speed(case, what, results[-1])
    write(options.json, on, results)


if __name__ == "__main__":
    main()

"""What other libraries ask for per-example and curvature quantities: one program each, for per_example.py.

Each library's programs stand beside its own plain gradient, which they are compared with. Data are in memory and
graphs are compiled before the first timed call. Those not installed are left out.
"""

import os
import timeit
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Program = Callable[[], Any]  # one call, until its result is there


class Peer(NamedTuple):
    """A library's program, and the name of funcnet's that gives the same."""

    name: str
    same_as: str
    run: Program


def peers(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> Iterator[list[Peer]]:
    """For each library its plain gradient, and then what it offers beyond."""
    warnings.filterwarnings("ignore", message="Full backward hook is firing")  # it does so on purpose
    for of_library in (vmap_of_grad, opacus, backpack):
        try:
            yield of_library(sizes, x, y)
        except ImportError as missing:
            print(f"{of_library.__name__}: left out, {missing.name} is not installed")


def vmap_of_grad(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> list[Peer]:
    """Plain JAX: the gradients of all examples, and what is made of them."""
    keys = jax.random.split(jax.random.key(0), len(sizes))
    params = [(jax.random.normal(k, s) / s[0] ** 0.5, jnp.zeros(s[1])) for k, s in zip(keys, pairwise(sizes))]

    def cost(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ w + b, y).sum()

    each = jax.vmap(jax.grad(cost), (None, 0, 0))

    def norms(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        squares = jax.tree.map(lambda g: jnp.square(g).reshape(len(x), -1).sum(1), each(params, x, y))
        return sum(jax.tree.leaves(squares))

    def clipped(params: Any, x: jax.Array, y: jax.Array) -> Any:
        grads = each(params, x, y)
        squares = [jnp.square(g).reshape(len(x), -1).sum(1) for g in jax.tree.leaves(grads)]
        factor = jnp.minimum(1, 1 / jnp.sqrt(sum(squares)))
        return jax.tree.map(lambda g: jnp.tensordot(factor, g, 1), grads)

    def variance(params: Any, x: jax.Array, y: jax.Array) -> Any:
        return jax.tree.map(lambda g: (g.mean(0), g.var(0)), each(params, x, y))

    def gram(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        flat = [g.reshape(len(x), -1) for g in jax.tree.leaves(each(params, x, y))]
        return sum(g @ g.T for g in flat)

    rows = [("plain gradient", "", jax.value_and_grad(cost)), ("norms", "norms", norms)]
    rows += [("clipped", "clipped", clipped), ("variance", "moments", variance), ("Gram", "Gram", gram)]
    arguments = jax.device_put((params, x, y))

    def compiled(f: Any) -> Program:
        program = jax.jit(f).lower(*arguments).compile()
        return lambda: jax.block_until_ready(program(*arguments))

    return [Peer(f"vmap(grad): {name}", same_as, compiled(f)) for name, same_as, f in rows]


def torch_network(sizes: tuple[int, ...]) -> Any:
    import torch

    layers: list[Any] = []
    for n_in, n_out in pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_gradient(model: Any, criterion: Any, x: Any, y: Any) -> None:
    model.zero_grad()
    criterion(model(x).flatten(0, -2), y.flatten()).backward()


def at_best(peer: Peer) -> Peer:
    """A program of PyTorch's with one thread, or as many as it takes by itself, whichever is faster."""
    import torch

    def with_threads(threads: int) -> None:
        torch.set_num_threads(threads)
        peer.run()

    def seconds(threads: int) -> float:
        with_threads(threads)
        return min(timeit.repeat(partial(with_threads, threads), number=1, repeat=3))

    return peer._replace(run=partial(with_threads, min((1, os.cpu_count() or 1), key=seconds)))


def opacus(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> list[Peer]:
    """Its module and optimiser, as its engine puts them together, up to where the wrapped optimiser would step."""
    import torch
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y).long()

    def hooks(noise: float) -> Program:
        model = GradSampleModule(torch_network(sizes))
        sgd = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer = DPOptimizer(sgd, noise_multiplier=noise, max_grad_norm=1.0, expected_batch_size=len(x))
        criterion = torch.nn.CrossEntropyLoss()

        def run() -> None:
            optimizer.zero_grad()
            criterion(model(inputs).flatten(0, -2), labels.flatten()).backward()
            optimizer.pre_step()

        return run

    def ghost(noise: float) -> Program:
        wrapped = torch_network(sizes)
        model = GradSampleModuleFastGradientClipping(wrapped, max_grad_norm=1.0, use_ghost_clipping=True)
        sgd = torch.optim.SGD(model.parameters(), lr=0.0)
        optimizer = DPOptimizerFastGradientClipping(
            sgd, noise_multiplier=noise, max_grad_norm=1.0, expected_batch_size=len(x)
        )
        criterion = DPLossFastGradientClipping(model, optimizer, torch.nn.CrossEntropyLoss())

        def run() -> None:
            optimizer.zero_grad()
            output = model(inputs)
            shape = output.shape if output.ndim == 3 else None
            criterion(output.flatten(0, -2), labels.flatten(), shape=shape).backward()
            optimizer.pre_step()

        return run

    plain = partial(torch_gradient, torch_network(sizes), torch.nn.CrossEntropyLoss(), inputs, labels)
    rows = [Peer("PyTorch: plain gradient", "", plain)]
    for name, builder in (("hooks", hooks), ("ghost", ghost)):
        rows += [Peer(f"Opacus, {name}: clipped", "clipped", builder(0.0))]
        rows += [Peer(f"Opacus, {name}: private", "private", builder(1.0))]
    return [at_best(row) for row in rows]


def backpack(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray) -> list[Peer]:
    """Its extensions, one a call. Those of the second order want no positions."""
    import torch
    from backpack import backpack as extended
    from backpack import extend, extensions

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y).long()
    plain_model, plain_criterion = torch_network(sizes), torch.nn.CrossEntropyLoss()
    model, criterion = extend(torch_network(sizes)), extend(torch.nn.CrossEntropyLoss())

    def run(extension: Any) -> None:
        with extended(extension()):
            torch_gradient(model, criterion, inputs, labels)

    rows = [
        ("norms", "norms", extensions.BatchL2Grad),
        ("Variance", "moments", extensions.Variance),
        ("DiagGGNExact", "GGN diagonal, exact", extensions.DiagGGNExact),
        ("KFAC", "Kronecker factors, sampled", extensions.KFAC),
        ("KFLR", "Kronecker factors, GGN", extensions.KFLR),
    ]
    plain = partial(torch_gradient, plain_model, plain_criterion, inputs, labels)
    own = [
        Peer(f"BackPACK: {name}", same_as, partial(run, extension))
        for name, same_as, extension in (rows if x.ndim == 2 else rows[:2])
    ]
    return [at_best(row) for row in (Peer("PyTorch again: plain gradient", "", plain), *own)]

"""What other libraries do of sequences.py: PyTorch, Flax and Equinox train the GPT, Opacus clips, PyTorch has a GRU.

Those not installed are left out.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax_peers import equinox_run, flax_run, in_batches
from sequence_networks import RATE, Shape

Run = Callable[[], Any]
Named = Iterator[tuple[str, Run]]


def peers_of(table: str, *arguments: Any) -> Named:
    """(name, a run of all batches, or of one call)."""
    makers: dict[str, tuple[Callable[..., Named], ...]] = {
        "training": (torch_training, flax_training, equinox_training),
        "example": (opacus,),
        "recurrent": (torch_recurrent,),
    }
    for maker in makers[table]:
        try:
            yield from maker(*arguments)
        except ImportError as missing:
            print(f"  {maker.__name__}: left out, {missing.name} is not installed")


# ------------------------------------------------------------------ PyTorch
def torch_gpt(shape: Shape, tied: bool) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project, self.out = nn.Linear(shape.n, 3 * shape.n), nn.Linear(shape.n, shape.n)

        def forward(self, x: Any) -> Any:
            m, T, n = x.shape
            q, k, v = (a.view(m, T, shape.heads, -1).transpose(1, 2) for a in self.project(x).split(n, 2))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(mixed.transpose(1, 2).reshape(m, T, n))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attention, self.norm2 = nn.LayerNorm(shape.n), Attention(), nn.LayerNorm(shape.n)
            self.up, self.down = nn.Linear(shape.n, 4 * shape.n), nn.Linear(4 * shape.n, shape.n)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(self.norm(x))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.positions = nn.Embedding(shape.vocabulary, shape.n), nn.Embedding(shape.length, shape.n)
            self.blocks, self.norm = nn.Sequential(*(Block() for _ in range(shape.depth))), nn.LayerNorm(shape.n)
            self.logits = nn.Linear(shape.n, shape.vocabulary, bias=False)
            if tied:
                self.logits.weight = self.table.weight

        def forward(self, x: Any) -> Any:
            places = torch.arange(x.shape[1]).repeat(len(x), 1)
            return self.logits(self.norm(self.blocks(self.table(x) + self.positions(places))))

    return Net()


def torch_training(shape: Shape, x: np.ndarray, y: np.ndarray, steps: int) -> Named:
    import torch

    net = torch_gpt(shape, tied=True)
    optimizer, criterion = torch.optim.Adam(net.parameters(), RATE), torch.nn.CrossEntropyLoss()
    tokens, targets = (torch.from_numpy(a).long().split(shape.batch_size) for a in (x, y))

    def run() -> None:
        for batch, target in zip(tokens, targets):
            optimizer.zero_grad()
            criterion(net(batch).flatten(0, 1), target.flatten()).backward()
            optimizer.step()

    yield "PyTorch", run


def torch_recurrent(kind: str, x: np.ndarray, n_out: int) -> Named:
    import torch

    net = getattr(torch.nn, kind)(x.shape[-1], n_out, batch_first=True)
    values = torch.from_numpy(x).requires_grad_()

    def run() -> None:
        net.zero_grad()
        values.grad = None
        net(values)[0].square().sum().backward()

    yield "PyTorch", run


# ------------------------------------------------------------------ Flax, Equinox
def flax_training(shape: Shape, x: np.ndarray, y: np.ndarray, steps: int) -> Named:
    from flax import nnx

    n, heads = shape.n, shape.heads

    class Block(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.norm, self.norm2 = nnx.LayerNorm(n, rngs=rngs), nnx.LayerNorm(n, rngs=rngs)
            self.project, self.out = nnx.Linear(n, 3 * n, rngs=rngs), nnx.Linear(n, n, rngs=rngs)
            self.up, self.down = nnx.Linear(n, 4 * n, rngs=rngs), nnx.Linear(4 * n, n, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            parts = jnp.split(self.project(self.norm(x)), 3, -1)
            q, k, v = (a.reshape(*x.shape[:2], heads, n // heads) for a in parts)
            x = x + self.out(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
            return x + self.down(jax.nn.gelu(self.up(self.norm2(x))))

    class Net(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.table = nnx.Embed(shape.vocabulary, n, rngs=rngs)
            self.positions = nnx.Embed(shape.length, n, rngs=rngs)
            self.blocks = nnx.List([Block(rngs) for _ in range(shape.depth)])
            self.norm = nnx.LayerNorm(n, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            h = self.table(x) + self.positions(jnp.arange(x.shape[1]))
            for block in self.blocks:
                h = block(h)
            return self.table.attend(self.norm(h))

    yield "Flax NNX, step by step", flax_run(Net(nnx.Rngs(0)), RATE, in_batches(x, y, steps))


def equinox_training(shape: Shape, x: np.ndarray, y: np.ndarray, steps: int) -> Named:
    import equinox as eqx

    n, heads = shape.n, shape.heads

    class Block(eqx.Module):
        norm: Any
        norm2: Any
        project: Any
        out: Any
        up: Any
        down: Any

        def __init__(self, key: jax.Array) -> None:
            keys = jax.random.split(key, 4)
            self.norm, self.norm2 = eqx.nn.LayerNorm(n), eqx.nn.LayerNorm(n)
            self.project, self.out = eqx.nn.Linear(n, 3 * n, key=keys[0]), eqx.nn.Linear(n, n, key=keys[1])
            self.up, self.down = eqx.nn.Linear(n, 4 * n, key=keys[2]), eqx.nn.Linear(4 * n, n, key=keys[3])

        def __call__(self, x: jax.Array) -> jax.Array:
            parts = jnp.split(jax.vmap(self.project)(jax.vmap(self.norm)(x)), 3, -1)
            q, k, v = (a.reshape(len(x), heads, n // heads) for a in parts)
            x = x + jax.vmap(self.out)(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape))
            return x + jax.vmap(lambda h: self.down(jax.nn.gelu(self.up(self.norm2(h)))))(x)

    class Net(eqx.Module):
        table: Any
        positions: Any
        blocks: list
        norm: Any

        def __init__(self, key: jax.Array) -> None:
            keys = jax.random.split(key, shape.depth + 2)
            self.table = eqx.nn.Embedding(shape.vocabulary, n, key=keys[0])
            self.positions = eqx.nn.Embedding(shape.length, n, key=keys[1])
            self.blocks, self.norm = [Block(key) for key in keys[2:]], eqx.nn.LayerNorm(n)

        def __call__(self, x: jax.Array) -> jax.Array:
            h = jax.vmap(self.table)(x) + self.positions.weight[: len(x)]
            for block in self.blocks:
                h = block(h)
            return jax.vmap(self.norm)(h) @ self.table.weight.T

    yield "Equinox, step by step", equinox_run(Net(jax.random.key(0)), RATE, in_batches(x, y, steps))


# ------------------------------------------------------------------ per example
def opacus(shape: Shape, x: np.ndarray, y: np.ndarray) -> Named:
    """Its module and optimiser, as its engine puts them together, up to where the wrapped optimiser would step."""
    import torch
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    tokens, targets = torch.from_numpy(x).long(), torch.from_numpy(y).long()
    bounds: dict[str, Any] = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "expected_batch_size": len(x)}
    criterion = torch.nn.CrossEntropyLoss()
    plain = torch_gpt(shape, tied=False)

    def gradient() -> None:
        plain.zero_grad()
        criterion(plain(tokens).flatten(0, 1), targets.flatten()).backward()

    yield "PyTorch: plain gradient", gradient
    hooked = GradSampleModule(torch_gpt(shape, tied=False))
    of_hooked = DPOptimizer(torch.optim.SGD(hooked.parameters(), lr=0.0), **bounds)

    def by_hooks() -> None:
        of_hooked.zero_grad()
        criterion(hooked(tokens).flatten(0, 1), targets.flatten()).backward()
        of_hooked.pre_step()

    yield "Opacus, hooks: clipped", by_hooks
    ghost = GradSampleModuleFastGradientClipping(
        torch_gpt(shape, tied=False), max_grad_norm=1.0, use_ghost_clipping=True
    )
    of_ghost = DPOptimizerFastGradientClipping(torch.optim.SGD(ghost.parameters(), lr=0.0), **bounds)
    bounded = DPLossFastGradientClipping(ghost, of_ghost, criterion)

    def by_ghosts() -> None:
        of_ghost.zero_grad()
        bounded(ghost(tokens).flatten(0, 1), targets.flatten(), shape=tuple(y.shape)).backward()
        of_ghost.pre_step()

    yield "Opacus, ghost: clipped", by_ghosts

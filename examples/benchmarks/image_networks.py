"""The two image networks of images.py: as funcnet's, in plain JAX on the same parameters, and in PyTorch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import funcnet as fn

RATE = 1e-3
LOSS = fn.CrossEntropy()


class Case(NamedTuple):
    """A network, its images and its batches."""

    name: str
    net: fn.Chain
    plain: Callable[[Any, jax.Array], jax.Array]
    torch: Callable[[], Any]
    shape: tuple[int, int, int]
    batch_size: int


# ------------------------------------------------------------------ funcnet
LENET = fn.Chain(
    fn.Conv(1, 32, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)),
    fn.Conv(32, 64, (3, 3)), fn.ReLU(), fn.MaxPool((2, 2)),
    fn.Flatten(), fn.Dense(7 * 7 * 64, 10),
)  # fmt: skip


def _branch(n_in: int, n_out: int, stride: int) -> fn.Chain:
    return fn.Chain(
        fn.Conv(n_in, n_out, (3, 3), stride), fn.GroupNorm(n_out, 8), fn.ReLU(),
        fn.Conv(n_out, n_out, (3, 3)), fn.GroupNorm(n_out, 8),
    )  # fmt: skip


RESNET = fn.Chain(
    fn.Conv(3, 16, (3, 3)), fn.GroupNorm(16, 8), fn.ReLU(),
    fn.Residual(_branch(16, 16, 1)), fn.ReLU(),
    fn.Parallel(_branch(16, 32, 2), fn.Conv(16, 32, (1, 1), 2), join="sum"), fn.ReLU(),
    fn.Parallel(_branch(32, 64, 2), fn.Conv(32, 64, (1, 1), 2), join="sum"), fn.ReLU(),
    fn.GlobalAveragePool(), fn.Dense(64, 10),
)  # fmt: skip


# ------------------------------------------------------------------ plain JAX, on the same parameters
def _conv(p: Any, x: jax.Array, stride: int = 1) -> jax.Array:
    z = lax.conv_general_dilated(x, p["w"], (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return z + p["b"]


def _pool(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _norm(p: Any, x: jax.Array) -> jax.Array:
    m, h, w, n = x.shape
    grouped = x.reshape(m, h * w, 8, n // 8)
    mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    return ((grouped - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape) * p["g"] + p["b"]


def plain_lenet(params: Any, x: jax.Array) -> jax.Array:
    x = _pool(jax.nn.relu(_conv(params[0], x)))
    x = _pool(jax.nn.relu(_conv(params[3], x)))
    return x.reshape(len(x), -1) @ params[7]["w"] + params[7]["b"]


def _plain_branch(p: Any, x: jax.Array, stride: int) -> jax.Array:
    return _norm(p[4], _conv(p[3], jax.nn.relu(_norm(p[1], _conv(p[0], x, stride)))))


def plain_resnet(params: Any, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(_norm(params[1], _conv(params[0], x)))
    x = jax.nn.relu(x + _plain_branch(params[3], x, 1))
    for branch, projection in (params[5], params[7]):
        x = jax.nn.relu(_plain_branch(branch, x, 2) + _conv(projection, x, 2))
    return x.mean((1, 2)) @ params[10]["w"] + params[10]["b"]


def plain_cost(case: Case) -> Callable[..., jax.Array]:
    """The mean cost of the plain network: what `jax.grad` differentiates."""

    def cost(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(case.plain(params, x), y).mean()

    return cost


# ------------------------------------------------------------------ PyTorch
def torch_lenet() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(7 * 7 * 64, 10),
    )  # fmt: skip


def torch_resnet() -> Any:
    from torch import nn

    class Sum(nn.Module):
        def __init__(self, first: Any, second: Any) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: Any) -> Any:
            return self.first(x) + self.second(x)

    def branch(n_in: int, n_out: int, stride: int) -> Any:
        return nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1), nn.GroupNorm(8, n_out), nn.ReLU(),
            nn.Conv2d(n_out, n_out, 3, padding=1), nn.GroupNorm(8, n_out),
        )  # fmt: skip

    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(8, 16), nn.ReLU(),
        Sum(branch(16, 16, 1), nn.Identity()), nn.ReLU(),
        Sum(branch(16, 32, 2), nn.Conv2d(16, 32, 1, 2)), nn.ReLU(),
        Sum(branch(32, 64, 2), nn.Conv2d(32, 64, 1, 2)), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


CASES = (
    Case("LeNet, 28 × 28 × 1, batch 128", LENET, plain_lenet, torch_lenet, (28, 28, 1), 128),
    Case("ResNet 16-32-64, 32 × 32 × 3, batch 64", RESNET, plain_resnet, torch_resnet, (32, 32, 3), 64),
)


def data(case: Case, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels: what they show does not matter for the time."""
    random, rows = np.random.default_rng(0), steps * case.batch_size
    x = random.standard_normal((rows, *case.shape), dtype=np.float32)
    return x, random.integers(0, 10, rows, dtype=np.int32)

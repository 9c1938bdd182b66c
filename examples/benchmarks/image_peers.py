"""What other libraries do of images.py: PyTorch, Flax and Equinox train, Opacus and BackPACK look at single examples.

Those not installed are left out.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from image_networks import RATE, Case
from jax_peers import equinox_run, flax_run, in_batches

Run = Callable[[], Any]


def peers_of(table: str, case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    """(name, a run of so many steps, or of one call)."""
    makers = {"training": (torch_training, flax_training, equinox_training), "example": (torch_plain, opacus, backpack)}
    for maker in makers[table]:
        try:
            yield from maker(case, x, y, steps)
        except ImportError as missing:
            print(f"  {maker.__name__}: left out, {missing.name} is not installed")


# ------------------------------------------------------------------ training
def torch_training(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    import torch

    net = case.torch().to(memory_format=torch.channels_last)
    optimizer, criterion = torch.optim.Adam(net.parameters(), RATE), torch.nn.CrossEntropyLoss()
    batches = list(zip(torch_images(x).split(case.batch_size), torch.from_numpy(y).long().split(case.batch_size)))

    def run() -> None:
        for images, labels in batches:
            optimizer.zero_grad()
            criterion(net(images), labels).backward()
            optimizer.step()

    yield "PyTorch, channels last", run


def torch_images(x: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(x).permute(0, 3, 1, 2)  # channels last in memory as they are


def flax_training(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    if "LeNet" not in case.name:
        return
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first, self.second = nnx.Conv(1, 32, (3, 3), rngs=rngs), nnx.Conv(32, 64, (3, 3), rngs=rngs)
            self.last = nnx.Linear(7 * 7 * 64, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.max_pool(nnx.relu(self.first(x)), (2, 2), (2, 2))
            x = nnx.max_pool(nnx.relu(self.second(x)), (2, 2), (2, 2))
            return self.last(x.reshape(len(x), -1))

    yield "Flax NNX, step by step", flax_run(Net(nnx.Rngs(0)), RATE, in_batches(x, y, steps))


def equinox_training(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    if "LeNet" not in case.name:
        return
    import equinox as eqx

    keys = jax.random.split(jax.random.key(0), 3)
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 32, 3, padding=1, key=keys[0]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Conv2d(32, 64, 3, padding=1, key=keys[1]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(7 * 7 * 64, 10, key=keys[2]),
        ]
    )  # fmt: skip
    batches = in_batches(x.transpose(0, 3, 1, 2), y, steps)
    yield "Equinox, step by step", equinox_run(net, RATE, batches)


# ------------------------------------------------------------------ per example
def gradient(model: Any, criterion: Any, images: Any, labels: Any) -> None:
    model.zero_grad()
    criterion(model(images), labels).backward()


def torch_plain(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    import torch

    net = case.torch().to(memory_format=torch.channels_last)
    yield (
        "PyTorch: plain gradient",
        partial(gradient, net, torch.nn.CrossEntropyLoss(), torch_images(x), torch.from_numpy(y).long()),
    )


def opacus(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    """Its module and optimiser, as its engine puts them together, up to where the wrapped optimiser would step."""
    import torch
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    images, labels, criterion = torch_images(x), torch.from_numpy(y).long(), torch.nn.CrossEntropyLoss()
    bounds: dict[str, Any] = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "expected_batch_size": len(x)}
    hooked = GradSampleModule(case.torch())
    of_hooked = DPOptimizer(torch.optim.SGD(hooked.parameters(), lr=0.0), **bounds)

    def by_hooks() -> None:
        of_hooked.zero_grad()
        criterion(hooked(images), labels).backward()
        of_hooked.pre_step()

    yield "Opacus, hooks: clipped", by_hooks
    ghost = GradSampleModuleFastGradientClipping(case.torch(), max_grad_norm=1.0, use_ghost_clipping=True)
    of_ghost = DPOptimizerFastGradientClipping(torch.optim.SGD(ghost.parameters(), lr=0.0), **bounds)
    bounded = DPLossFastGradientClipping(ghost, of_ghost, torch.nn.CrossEntropyLoss())

    def by_ghosts() -> None:
        of_ghost.zero_grad()
        bounded(ghost(images), labels).backward()
        of_ghost.pre_step()

    yield "Opacus, ghost: clipped", by_ghosts


def backpack(case: Case, x: np.ndarray, y: np.ndarray, steps: int) -> Iterator[tuple[str, Run]]:
    """Chains of layers that it knows: the LeNet."""
    if "LeNet" not in case.name:
        return
    import torch
    from backpack import backpack as extended
    from backpack import extend, extensions

    images, labels = torch_images(x), torch.from_numpy(y).long()
    model, criterion = extend(case.torch()), extend(torch.nn.CrossEntropyLoss())
    for name, extension in (("norms", extensions.BatchL2Grad), ("variance", extensions.Variance)):

        def run(extension: Any = extension) -> None:
            with extended(extension()):
                gradient(model, criterion, images, labels)

        yield f"BackPACK: {name}", run

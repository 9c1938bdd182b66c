"""A training that is killed in the middle, and goes on as if nothing had happened.

Power fails, and clusters throw jobs out. With `checkpoint=fn.Checkpoint(folder)` a training saves
itself now and then, and the same call made again goes on from the newest save, to the same bits as
without the interruption. Here a child process trains on scikit-learn's digits and is killed, without
a chance to tidy up. The parent then makes the same call, and compares with a training left alone.
"""

import multiprocessing
import signal
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

try:
    import orbax.checkpoint  # noqa: F401  (what writes checkpoints)
    from sklearn.datasets import load_digits
except ImportError as error:
    raise SystemExit(
        f"This example needs {error.name}. Install it by: .venv/bin/pip install -e '.[examples]'"
    ) from None

EPOCHS = 400
NET = fn.mlp((64, 64, 10), fn.ReLU(), init=fn.HeNormal())
OPTIMIZER = optax.adam(1e-3)  # made once, since JAX would compile the training again for another one


def train(folder: Path | None, net: fn.Chain = NET) -> tuple[fn.TrainState, fn.History]:
    """The call this story is about. Nothing in it says whether the training is new or goes on."""
    pictures, digits = load_digits(return_X_y=True)
    x, y = jnp.asarray(pictures / 16, jnp.float32), jnp.asarray(digits)
    weights_key, order_key = jax.random.split(jax.random.key(0))
    state = fn.train_state(OPTIMIZER, fn.init(net, weights_key), order_key)
    # Five times a second is for this story; the default, every 30 seconds, suits long trainings.
    checkpoint = None if folder is None else fn.Checkpoint(folder, seconds=0.2)
    return fn.fit(
        net, fn.CrossEntropy(), OPTIMIZER, state, (x, y), epochs=EPOCHS, batch_size=32,
        penalty=fn.L2(1e-4), checkpoint=checkpoint,
    )  # fmt: skip


def saved(folder: Path) -> list[int]:
    """The epochs that whole checkpoints are of: folders named epoch_00000123."""
    names = (path.name.removeprefix("epoch_") for path in folder.glob("epoch_*"))
    return sorted(int(name) for name in names if name.isdigit())


def train_and_be_killed(folder: Path) -> None:
    """Train in a child process until a fifth is done, then SIGKILL, which no process can catch."""
    child = multiprocessing.get_context("spawn").Process(target=train, args=(folder,))
    child.start()
    while child.is_alive() and max(saved(folder), default=0) < EPOCHS // 5:
        time.sleep(0.001)
    child.kill()
    child.join()
    if child.exitcode != -signal.SIGKILL:
        raise SystemExit("The training ended before it could be killed. If it reported no error, set EPOCHS higher.")


def different(one: fn.Params, other: fn.Params) -> int:
    """How many parameters differ in any of their bits."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return sum(int(np.sum(np.asarray(a).view(np.uint32) != np.asarray(b).view(np.uint32))) for a, b in pairs)


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "digits"
        train_and_be_killed(folder)
        print(f"A training of {EPOCHS} epochs was killed. In its folder lie")
        print(*(f"  {path.name}" for path in sorted(folder.iterdir())), sep="\n")

        # A checkpoint appears under such a name when it is complete. If the kill came into the midst of a
        # save, what there is of it has a longer name; it counts for nothing and is cleared away.
        print(f"\nThe same call again goes on after epoch {max(saved(folder))}. The history is that of the whole:")
        state, history = train(folder)
        print(history)
        print(f"The checkpoints are of epochs {' and '.join(map(str, saved(folder)))} now: the latest two are kept.")

        never_killed, its_history = train(None)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        print("\nAgainst a training never killed, compared bit for bit:")
        print(f"  {different(state.params, never_killed.params)} of {count} parameters differ")
        print(f"  {np.sum(history['cost'] != its_history['cost'])} of {EPOCHS} recorded costs differ\n")

        # A folder belongs to one training. To go on with another network is a mistake, and refused.
        print("The same folder for another network:")
        try:
            train(folder, fn.mlp((64, 16, 10), fn.Tanh()))
        except ValueError as error:
            print(error)


if __name__ == "__main__":
    main()

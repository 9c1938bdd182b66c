"""`load_checkpoint`: what a training saved, without running it."""

import os
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core import scalars
from funcnet._core.arrays import shown
from funcnet.train.checkpoint_files import Disk, epochs_in, path_of
from funcnet.train.history import History
from funcnet.train.privacy_account import Privacy
from funcnet.train.state import TrainState, check_optimizer
from funcnet.train.telemetry import with_absent

STATE, PARAMS, OPTIMIZER, BEST = ".state", ".state.params", ".state.opt_state", ".best"


def load_checkpoint(
    folder: str | os.PathLike[str],
    which: Literal["best", "last"] | int = "best",
    *,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[TrainState, History]:
    """A saved training's state and history, without training.

    Args:
        folder: that of the `Checkpoint`.
        which: "last", the newest; an epoch that was kept; or "best": with early stopping the newest, its parameters
            those of the best epoch, as `fit` would return them, else the kept one with the best validation cost (or
            cost, if there was no validation).
        optimizer: the one that the training had. Without it `opt_state` is None, and the state is one to predict with.

    Returns:
        The `TrainState` and the `History` up to that epoch. Of a `fit_many` both have the lanes first in each array.

    Raises:
        ImportError: Orbax is not installed.
        FileNotFoundError: there is no checkpoint in the folder.
        ValueError: an epoch that was not kept, another optimiser, a damaged file, one by funcnet 0.1.0 before it wrote
            down what this function needs.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp, optax, tempfile
        >>> net, loss, sgd = fn.Dense(1, 1), fn.SquaredError(), optax.sgd(0.1)
        >>> x, state = jnp.ones((4, 1)), fn.train_state(sgd, fn.init(net, jax.random.key(0)), jax.random.key(1))
        >>> folder = fn.Checkpoint(tempfile.mkdtemp())
        >>> state, _ = fn.fit(net, loss, sgd, state, (x, x), epochs=3, batch_size=2, checkpoint=folder)
        >>> loaded, history = fn.load_checkpoint(folder.directory, "last", optimizer=sgd)
        >>> bool(loaded.params["w"] == state.params["w"]), int(history.epochs)
        (True, 3)
    """
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder: expected that of a Checkpoint, a name or a path, got {shown(folder)}.")
    disk, path = Disk(), Path(folder).absolute()
    kept = sorted(epochs_in(path))
    if not kept:
        raise FileNotFoundError(f"load_checkpoint: there is no checkpoint in {path}. Name the folder of a Checkpoint.")
    best = isinstance(which, str) and which == "best"
    if not isinstance(which, str) or which not in ("best", "last"):
        which = scalars.integer("which", which, "'best', 'last' or an epoch", 1)
        if which not in kept:
            raise ValueError(
                f"load_checkpoint: epoch {which} is not in {path}; there are {', '.join(map(str, kept))}. "
                "A Checkpoint keeps the latest and the best."
            )
    arrays, about = disk.read(path_of(path, which if isinstance(which, int) else kept[-1]))
    if best and not np.any(arrays.get(".best_epoch", 0)):
        values = {epoch: disk.read(path_of(path, epoch))[1]["value"] for epoch in kept}
        arrays, about = disk.read(path_of(path, min(kept, key=lambda epoch: (values[epoch], epoch))))
    if "params" not in about:
        raise ValueError(
            f"load_checkpoint: {path} was saved before funcnet wrote down how parameters stand together. Call fit as "
            "it was called then, with the number of epochs that are saved: it returns them."
        )
    state = _state_of(arrays, about, optimizer)
    if best and np.any(arrays[".best_epoch"]):
        state = state._replace(params=_best_of(arrays, state, about))
    return state, _history_of(arrays, about)


def _state_of(arrays: dict[str, np.ndarray], about: dict[str, Any], optimizer: Any) -> TrainState:
    params = _built(about["params"], PARAMS, arrays)
    key_kind = about["description"].get("kind of key", "threefry2x32")
    key = jax.random.wrap_key_data(jnp.asarray(arrays[f"{STATE}.key"]), impl=key_kind)
    step = jnp.asarray(arrays[f"{STATE}.step"])
    opt_state = None
    if optimizer is not None:
        check_optimizer(optimizer)
        init = jax.vmap(optimizer.init) if step.ndim else optimizer.init
        opt_state = jax.tree_util.tree_map_with_path(
            lambda place, leaf: _taken(arrays, OPTIMIZER + jax.tree_util.keystr(place), leaf),
            jax.eval_shape(init, params),
        )
    return TrainState(params, opt_state, step, key)


def _taken(arrays: dict[str, np.ndarray], name: str, leaf: Any) -> jax.Array:
    """The array of an optimiser's state."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    shape = jax.eval_shape(jax.random.key_data, leaf).shape if is_key else leaf.shape
    saved = arrays.get(name, np.zeros(shape, leaf.dtype) if 0 in shape else None)
    if saved is None or saved.shape != shape:
        what = "nothing" if saved is None else f"{saved.dtype}{list(saved.shape)}"
        raise ValueError(
            f"load_checkpoint: the optimiser is not that of the training: {name} is {what}, expected "
            f"{leaf.dtype}{list(shape)}. Give the one that fit was called with."
        )
    return (
        jax.random.wrap_key_data(jnp.asarray(saved), impl=jax.random.key_impl(leaf)) if is_key else jnp.asarray(saved)
    )


def _built(layout: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A tree as `layout_of` wrote it down."""
    if isinstance(layout, str):
        kind, _, shape = layout.partition("[")
        empty = np.zeros([int(size) for size in shape[:-1].split(",") if size], kind)
        return jnp.asarray(arrays[name] if empty.size else empty)
    if isinstance(layout, list):
        return tuple(_built(part, f"{name}[{i}]", arrays) for i, part in enumerate(layout))
    return {key: _built(part, f"{name}[{key!r}]", arrays) for key, part in layout.items()}


def _best_of(arrays: dict[str, np.ndarray], state: TrainState, about: dict[str, Any]) -> Any:
    """The best parameters; of lanes that have none the last."""
    there = jnp.asarray(arrays[".best_epoch"]) > 0

    def chosen(best: jax.Array, last: jax.Array) -> jax.Array:
        return jnp.where(there.reshape(*there.shape, *[1] * (best.ndim - there.ndim)), best, last)

    return jax.tree.map(chosen, _built(about["params"], BEST, arrays), state.params)


def _history_of(arrays: dict[str, np.ndarray], about: dict[str, Any]) -> History:
    names, epochs, looks = tuple(about["columns"]), arrays[".epoch"], about["looks"]
    columns = {name: jnp.asarray(arrays[f".columns[{name!r}]"]) for name in names}
    done = columns["cost"].shape[-1]
    if about["privacy"] is not None:
        numbers = dict(about["privacy"])
        m, batch_size = numbers.pop("m"), numbers.pop("batch_size")
        spent = jnp.asarray(Privacy(**numbers).epsilons(m, batch_size, done))
        names, columns = (*names, "epsilon"), {**columns, "epsilon": jnp.broadcast_to(spent, columns["cost"].shape)}
    prefix = ".telemetry['"
    telemetry = {name[len(prefix) : -2]: jnp.asarray(a) for name, a in arrays.items() if name.startswith(prefix)}
    if telemetry:
        first = np.arange(looks) * about["telemetry"] + 1
        steps = np.add.outer(np.arange(done) * about["steps"], first).ravel()
        telemetry = {"step": jnp.broadcast_to(steps, telemetry["noise_scale"].shape), **with_absent(telemetry)}
    return History(names, columns, jnp.asarray(epochs), jnp.asarray(arrays[".best_epoch"]), "", telemetry, looks)

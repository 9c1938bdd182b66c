"""Hand-written derivatives against finite differences, entry by entry, in float64."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from funcnet._core.protocols import Tree
from funcnet.check.reports import RIGHT, Row, verdict

MOST_IN_DOUBT = 5000
"""How many entries of a leaf that disagree with the automatic derivative are differenced."""

STEP = 1e-5
"""ε of the central differences (J(θ+ε) - J(θ-ε)) / 2ε; entries in doubt are tried at ε/10 and ε/100 too."""


def compare(
    cost: Callable[[Tree], tuple[jax.Array, jax.Array]],
    at: Tree,
    names: list[str],
    hand: Tree,
    automatic: Tree | None,
    *,
    entries: int,
    seed: int,
    allowed: Tree | None = None,
) -> tuple[Row, ...]:
    """A row for every leaf of `at`.

    Args:
        cost: J and the size of the terms it sums (which tells how far rounding may move it).
        at: where to differentiate, float64 leaves.
        names: of the leaves.
        hand: the derivatives under check, like `at`.
        automatic: JAX's, or None.
        entries: how many entries of a leaf to difference; of a larger leaf a seeded sample, and every entry
            where the hand-written and the automatic derivative disagree (of very many a sample).
        seed: of the sample.
        allowed: how far the rounding of an answer may take it, entry by entry; what is beyond is measured against the
            entry itself, however small. None for derivatives in float64.
    """
    differences = _Differences(cost, at, entries)
    draw = np.random.default_rng(seed)
    rows, start = [], 0
    others = [None] * len(names) if automatic is None else jax.tree.leaves(automatic)
    margins = [None] * len(names) if allowed is None else jax.tree.leaves(allowed)
    leaves = zip(names, jax.tree.leaves(at), jax.tree.leaves(hand), others, margins, strict=True)
    for name, leaf, g, other, allowed_here in leaves:
        g = np.asarray(g, np.float64).ravel()
        margin = None if allowed_here is None else np.asarray(allowed_here, np.float64).ravel()
        a = None if other is None else np.asarray(other, np.float64).ravel()
        chosen, skipped = np.arange(g.size), 0
        if g.size > entries:
            doubtful = np.zeros(0, int) if a is None else np.flatnonzero(~(_apart(g, a, margin) < RIGHT))
            if len(doubtful) > MOST_IN_DOUBT:
                skipped = len(doubtful) - MOST_IN_DOUBT
                doubtful = doubtful[np.sort(draw.choice(len(doubtful), MOST_IN_DOUBT, replace=False))]
            sample = draw.choice(g.size, max(entries - len(doubtful), 0), replace=False)
            chosen = np.union1d(sample, doubtful).astype(int)
        rows.append(_row(name, np.shape(leaf), g, a, margin, chosen, skipped, start, differences))
        start += g.size
    return tuple(rows)


def _floor(g: np.ndarray, automatic: np.ndarray | None) -> float:
    """What an error is measured against at the least: a hundredth of the leaf's largest entry."""
    return 1e-2 * max(_largest(g), 0.0 if automatic is None else _largest(automatic))


def _apart(g: np.ndarray, automatic: np.ndarray, margin: np.ndarray | None) -> np.ndarray:
    """The error of a derivative against the automatic one. Where it is one, only differences can judge."""
    if margin is None:
        return _relative(g, automatic, _floor(g, automatic), 0.0)
    return _relative(g, automatic, 0.0, margin)


class _Differences:
    """J at θ and at θ with one entry moved, for many entries in one compiled loop."""

    def __init__(self, cost: Callable[[Tree], tuple[jax.Array, jax.Array]], at: Tree, entries: int) -> None:
        flat, unravel = ravel_pytree(at)
        value, size = jax.jit(cost)(at)
        self.value = float(value)
        if not np.isfinite(self.value):
            raise ValueError(
                f"The cost is {self.value} at these parameters and inputs, so it has no slope to compare with."
            )
        self.rounding = 4 * float(np.finfo(np.float64).eps) * max(float(size), abs(self.value))

        def moved(flat: jax.Array, chosen: jax.Array, count: int, step: float) -> jax.Array:
            def one(k: jax.Array, costs: jax.Array) -> jax.Array:
                ahead, behind = (cost(unravel(flat.at[chosen[k]].add(s)))[0] for s in (step, -step))
                return costs.at[k].set(jnp.stack([ahead, behind]))

            return jax.lax.fori_loop(0, count, one, jnp.zeros((len(chosen), 2)))

        compiled = jax.jit(moved)
        self._moved = lambda chosen, count, step: compiled(flat, chosen, count, step)
        self._room = min(entries, flat.size)

    def one_sided(self, entries: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        """The slopes ahead and behind of these entries."""
        costs = np.zeros((len(entries), 2))
        for start in range(0, len(entries), self._room):
            part = entries[start : start + self._room]
            padded = np.pad(part, (0, self._room - len(part)))  # one compiled loop for every leaf
            costs[start : start + len(part)] = np.asarray(self._moved(padded, len(part), step))[: len(part)]
        ahead, behind = costs.T
        ahead, behind = (np.where(np.isfinite(side), side, np.nan) for side in (ahead, behind))
        return (ahead - self.value) / step, (self.value - behind) / step


def _row(
    name: str,
    shape: tuple[int, ...],
    g: np.ndarray,
    automatic: np.ndarray | None,
    margin: np.ndarray | None,
    chosen: np.ndarray,
    skipped: int,
    start: int,
    differences: _Differences,
) -> Row:
    if not g.size:
        return Row(name, (), 0.0, 0.0, None, 0.0, 0, 0, 0, 0, "right")
    floor = _floor(g, automatic)
    overall = np.zeros(g.size) if automatic is None else _apart(g, automatic, margin)
    expected = g if automatic is None else automatic
    own = np.zeros(len(chosen)) if margin is None else margin[chosen]
    looked = _look(g[chosen], expected[chosen], chosen + start, overall[chosen], floor, own, differences)
    if automatic is None:
        looked.unresolved[:] |= differences.rounding / STEP > 0.1 * floor > 0
    overall[chosen[looked.kinks]] = 0
    overall[chosen] = np.maximum(overall[chosen], np.where(looked.kinks | looked.unresolved, 0, looked.errors))
    worst = int(np.argmax(overall))
    judged = verdict(float(overall[worst]))
    if judged == "right" and automatic is None and looked.unresolved.any():
        judged = "unresolved"
    return Row(
        name=name,
        index=tuple(int(i) for i in np.unravel_index(worst, shape)),
        error=float(overall[worst]),
        hand=float(g[worst]),
        automatic=None if automatic is None else float(automatic[worst]),
        numeric=float(next(iter(looked.numeric[chosen == worst]), np.nan)),
        checked=len(chosen),
        size=g.size,
        kinks=int(looked.kinks.sum()),
        unresolved=int(looked.unresolved.sum()),
        verdict=judged,
        skipped=skipped,
    )


class _Looked(NamedTuple):
    """What differences say of some entries."""

    numeric: np.ndarray
    errors: np.ndarray
    kinks: np.ndarray
    unresolved: np.ndarray


def _look(
    g: np.ndarray,
    expected: np.ndarray,
    where: np.ndarray,
    against: np.ndarray,
    floor: float,
    own: np.ndarray,
    differences: _Differences,
) -> _Looked:
    """Differences at one step for all entries, and at two finer ones for those in doubt; `own` is g's rounding."""
    ahead, behind = differences.one_sided(where, STEP)
    numeric = (ahead + behind) / 2
    errors = _relative(g, numeric, floor, differences.rounding / STEP + own)
    kinks, unresolved = np.zeros(len(g), bool), np.zeros(len(g), bool)
    doubt = np.flatnonzero(~(np.maximum(errors, against) < RIGHT))
    slopes, sides, doubtful = [numeric[doubt]], (ahead[doubt], behind[doubt]), g[doubt]
    wider = np.zeros(len(doubt))
    for step in (STEP / 10, STEP / 100):
        finer, noise = differences.one_sided(where[doubt], step), differences.rounding / step
        slopes.append((finer[0] + finer[1]) / 2)
        if noise <= 0.1 * floor:
            errors[doubt] = np.minimum(errors[doubt], _relative(doubtful, slopes[-1], floor, noise + own[doubt]))
        f, b = (_at_zero_step(coarse, fine) for coarse, fine in zip(sides, finer))
        # At a kink the gap between the sides does not shrink with the step, and all derivatives lie in it.
        between = _bracketed(doubtful, f, b, floor, 3 * noise) & _bracketed(expected[doubt], f, b, floor, 3 * noise)
        kinks[doubt] = between & (np.abs(f - b) > 0.5 * wider)
        sides, wider = finer, np.abs(f - b)
    tried = np.stack(slopes)
    gaps = _distance(doubtful, tried)
    numeric[doubt] = np.take_along_axis(tried, np.argmin(gaps, 0)[None], 0)[0]
    # Slopes that move with the step by as much as they miss g say nothing about g.
    unresolved[doubt] = (errors[doubt] >= RIGHT) & ~kinks[doubt] & (gaps.min(0) <= np.ptp(tried, 0))
    return _Looked(numeric, errors, kinks, unresolved)


def _at_zero_step(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """A one-sided slope without the part that curvature adds, which shrinks tenfold with the step."""
    return (10 * fine - coarse) / 9


def _bracketed(g: np.ndarray, ahead: np.ndarray, behind: np.ndarray, floor: float, noise: float) -> np.ndarray:
    """Whether the one-sided slopes disagree, as only a kink makes them, with g between them."""
    slack = 1e-6 * np.maximum(np.maximum(np.abs(ahead), np.abs(behind)), floor) + noise
    between = (g >= np.minimum(ahead, behind) - slack) & (g <= np.maximum(ahead, behind) + slack)
    return (np.abs(ahead - behind) > 3 * slack) & between


def _relative(g: np.ndarray, n: np.ndarray, floor: float, noise: float | np.ndarray) -> np.ndarray:
    """|g - n| beyond what rounding explains, over max(|g|, |n|, floor); all zero: 0; not finite: ∞."""
    scale = np.maximum(np.maximum(np.abs(g), np.abs(n)), floor)
    beyond = np.maximum(_distance(g, n) - noise, 0)
    return np.where(~(beyond <= 0), beyond / np.where((scale > 0) & np.isfinite(scale), scale, 1), 0)


def _distance(g: np.ndarray, n: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        gap = np.abs(g - n)
    return np.where(np.isfinite(gap), gap, np.inf)


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.max(np.abs(finite))) if finite.size else 0.0

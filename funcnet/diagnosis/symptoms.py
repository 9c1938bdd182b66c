"""What `diagnose` sees without training: a function for each thing it looks at."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import walkers
from funcnet.derivations.chains import links
from funcnet.diagnosis import thresholds as limit
from funcnet.diagnosis.evidence import Evidence, percent, rows_of, shown
from funcnet.diagnosis.verdicts import Look, Verdict

SMALL = float(np.finfo(np.float32).eps)


def cost_is_finite(facts: Evidence) -> Look:
    bad = [name for name, sizes in facts.flow.items() if not np.isfinite(sizes["gradient"])]
    if np.isfinite(facts.cost) and not bad:
        return Look(f"cost {shown(facts.cost)}, all gradients finite; {len(facts.data.x)} of {facts.m} examples")
    weights = [name for name, sizes in facts.flow.items() if not np.isfinite(sizes["weight"])]
    where = (weights or bad or ["loss"])[0]
    evidence = f"cost {shown(facts.cost)}; " + (
        f"parameters of {where} are not finite." if weights else f"first at {where}."
    )
    remedy = "Start from fresh parameters, with a lower learning rate, scaled inputs, or fn.L2 if weights ran away."
    return Look(evidence, (Verdict("cost not finite", where, evidence, remedy),))


def labels_vary(facts: Evidence) -> Look:
    classes = facts.labels.ndim == facts.data.x.ndim - 1
    rows = rows_of(facts.labels, not classes)
    if len(rows) < 2:
        return Look("there is one only.", done=False)
    different = len(np.unique(rows, axis=0))
    if different > 1:
        kinds = "different labels" if classes else "different targets"
        return Look(f"{different} {kinds} in {len(rows)}")
    evidence = f"all {len(rows)} targets are {rows[0].tolist() if rows.shape[1] > 1 else rows[0, 0]}."
    remedy = "Look at how y is made: a split of sorted data, a wrong column, an integer division."
    return Look(evidence, (Verdict("labels constant", "y", evidence, remedy),))


def inputs_are_scaled(facts: Evidence) -> Look:
    if not np.issubdtype(facts.data.x.dtype, np.floating):
        return Look(f"x is {facts.data.x.dtype}.", done=False)
    rows = rows_of(facts.data.x, True).astype(np.float64)
    entries = (rows != 0).sum(axis=0)
    sizes = np.sqrt((rows**2).sum(axis=0) / np.maximum(entries, 1))
    used = np.flatnonzero(entries)
    if not len(used):
        return Look("every input is 0.", (Verdict("inputs unscaled", "x", "every input is 0.", _SCALE),))
    large, small = used[sizes[used].argmax()], used[sizes[used].argmin()]
    text = f"largest feature [{large}], rms {shown(sizes[large])}; smallest [{small}], rms {shown(sizes[small])}"
    ratio = sizes[large] / sizes[small]
    normed = _starts_with_norm(facts)
    largest = np.inf if normed else limit.INPUT_LARGEST
    evidence = ""
    if not limit.INPUT_SMALLEST <= sizes[large] <= largest or not ratio <= limit.INPUT_RATIO:
        evidence = (
            f"{text}; the largest should be within {limit.INPUT_SMALLEST:g} … {limit.INPUT_LARGEST:g}, their ratio at "
            f"most {limit.INPUT_RATIO:g}."
        )
    elif not normed and (offsets := _offsets(rows)).max() > limit.INPUT_OFFSET:
        far = offsets.argmax()
        evidence = (
            f"the mean of feature [{far}], {shown(rows[:, far].mean())}, is {shown(offsets[far])} times its standard "
            f"deviation, at most {limit.INPUT_OFFSET:g} expected; {text}."
        )
    return Look(text, (Verdict("inputs unscaled", "x", evidence, _SCALE),) if evidence else ())


def _starts_with_norm(facts: Evidence) -> bool:
    """Whether the first layer takes out how large an example is, and what all its features share, as `LayerNorm` does.

    Such a layer gives the same for 2 x + c as for x.
    """
    layer, params = next(links(facts.net, facts.params), (None, ()))
    sizes = [getattr(layer, name, None) for name in ("n_in", "n_out")]
    if layer is None or getattr(layer, "elementwise", False) or sizes[0] != sizes[1]:
        return False
    x = np.asarray(facts.data.x)
    moved = 2 * x + np.abs(x).max(axis=-1, keepdims=True)
    before, after = (np.asarray(walkers.layer_forward(layer, params, jnp.asarray(part))[0]) for part in (x, moved))
    size, change = (np.linalg.norm(part.astype(np.float64)) for part in (before, after - before))
    return bool(size > 0 and change <= limit.NORMED * size)


def _offsets(rows: np.ndarray) -> np.ndarray:
    """|mean| over standard deviation, feature by feature; 0 for one that is constant or does not keep clear of 0."""
    least, most = rows.min(axis=0), rows.max(axis=0)
    counted = (least < most) & (least * most > 0)
    return np.where(counted, np.abs(rows.mean(axis=0)), 0.0) / np.where(counted, rows.std(axis=0), 1.0)


_SCALE = "Use (x - mean) / std, feature by feature, with mean and std of the training examples for all sets."


def cost_is_near_chance(facts: Evidence) -> Look:
    if facts.chance is None or facts.beside is None:
        return Look(f"no constant output suits {facts.loss}.", done=False)
    # Outputs of a fresh network are of order 1, so targets closer to each other than that are no fault.
    most = limit.COST_TO_CHANCE * max(facts.chance, facts.beside)
    if most < SMALL:
        return Look("the best constant output costs nothing: there is nothing to learn.", done=False)
    text = f"cost {shown(facts.cost)}, chance level (the best constant output) {shown(facts.chance)}"
    if facts.cost <= most:
        return Look(text)
    last = [*facts.flow, "net"][-2 if facts.flow else -1]
    evidence = f"{text}; expected at most {shown(most)}."
    remedy = (
        "Before training: smaller weights (GlorotUniform, HeNormal), the last layer's above all; for real targets "
        "(y - mean) / std, or the last bias started at their mean; for classes, at the log of their frequencies. "
        "After: these are not the examples it learned, or "
        "not scaled like them."
    )
    return Look(text, (Verdict("cost above chance", last, evidence, remedy),))


def units_differ(facts: Evidence) -> Look:
    layers = [own for _, _, *own in walkers.leaves(facts.net, facts.params, facts.grads) if jax.tree.leaves(own)]
    verdicts, units = [], 0
    # Of the last layer, outputs with equal targets may well be equal.
    for name, (params, grads) in list(zip(facts.flow, layers, strict=True))[:-1]:
        if np.ndim(params.get("w", 0)) < 2 or params["w"].shape[-1] < 2:
            continue
        n = params["w"].shape[-1]
        different = min(n, _different(params, n, grads))
        units += n
        if different < n:
            evidence = (
                f"{n - different} of {n} units repeat another one: equal weights and equal gradients (to "
                f"{limit.EQUAL:g} of the largest), so they stay equal for ever; {different} differ."
            )
            remedy = "Start from random weights: fn.init with GlorotUniform() or HeNormal(), not Zeros() or Constant()."
            verdicts.append(Verdict("symmetric units", name, evidence, remedy))
    return Look(f"{units} units compared by weights and gradients", tuple(verdicts))


def _different(params: dict[str, Any], n: int, grads: dict[str, Any]) -> int:
    """How many units differ by weights or gradient. Equal ones are neighbours when sorted along a random line.

    Units whose weights are all about 0 beside others are no copies: a strong penalty switched them off.
    """
    blocks = []
    for part in (params, grads):
        leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(part) if np.shape(leaf)[-1:] == (n,)]
        block = np.concatenate([leaf.reshape(-1, n) for leaf in leaves])
        blocks.append(block / (np.abs(block).max() or 1.0))
    off = np.abs(blocks[0]).max(axis=0) <= limit.EQUAL
    columns = np.concatenate(blocks)[:, off.all() | ~off]
    line = np.random.default_rng(0).normal(size=len(columns))
    columns = columns[:, np.argsort(line @ columns)]
    different = 1 + int((np.abs(np.diff(columns, axis=1)).max(axis=0) > limit.EQUAL).sum())
    return different + n - columns.shape[1]


def units_are_alive(facts: Evidence) -> Look:
    rows = len(rows_of(facts.data.x, True))
    if rows < limit.ROWS_FOR_DEAD:
        return Look(f"{rows} examples are too few to tell; {limit.ROWS_FOR_DEAD} are needed.", done=False)
    verdicts, worst = [], {"dead": 0.0, "saturated": 0.0}
    for name, sizes in facts.flow.items():
        output = name == list(facts.flow)[-1]  # there a saturated sigmoid is an answer given with confidence
        dead, flat = (0.0 if np.isnan(sizes[kind]) else sizes[kind] for kind in ("dead", "saturated"))
        if output and not np.isnan(sizes["saturated"]):
            continue
        worst = {"dead": max(worst["dead"], dead), "saturated": max(worst["saturated"], flat)}
        if flat > limit.SATURATED:
            evidence = (
                f"{percent(flat)} of the activations behind it are on the flat of their curve, at most "
                f"{percent(limit.SATURATED)} expected; rms of its weights {shown(sizes['weight'])}, of its inputs "
                f"{shown(sizes['a'])}."
            )
            remedy = "Scale the inputs, start with smaller weights (GlorotUniform), put a LayerNorm before it, or ReLU."
            verdicts.append(Verdict("saturated units", name, evidence, remedy))
        elif dead > limit.DEAD:
            evidence = (
                f"{percent(dead)} of its units pass no error signal on at any of {rows} examples, at most "
                f"{percent(limit.DEAD)} expected."
            )
            remedy = "Start again with HeNormal() and biases of 0, with a lower learning rate, or use LeakyReLU()."
            verdicts.append(Verdict("dead units", name, evidence, remedy))
    text = f"at most {percent(worst['dead'])} dead and {percent(worst['saturated'])} saturated in a layer"
    return Look(text, tuple(verdicts))


def error_signals_keep_their_size(facts: Evidence) -> Look:
    # Exactly 0 is no decay: it is a unit that is off, or a last layer started at 0.
    sizes = {name: flow["delta"] for name, flow in facts.flow.items() if flow["delta"] > 0}
    names = list(sizes)
    if len(names) < 2 or names[-1] != list(facts.flow)[-1]:
        return Look("fewer than two layers have any.", done=False)
    ratios = {name: size / sizes[names[-1]] for name, size in sizes.items()}
    each = ratios[names[0]] ** (1 / (len(names) - 1))
    text = (
        f"rms of δ at {names[0]} is {shown(ratios[names[0]])} of that at {names[-1]}, a factor of {shown(each)} a layer"
    )
    verdicts = []
    if small := [name for name in names if ratios[name] < limit.VANISHED]:
        evidence = f"{text}; below {limit.VANISHED:g} at {_span(small)}. {_listed(sizes)}"
        remedy = "ReLU() with HeNormal(), Residual blocks, LayerNorm, or fewer layers; not Sigmoid() in deep networks."
        verdicts.append(Verdict("vanishing error signals", _span(small), evidence, remedy))
    if large := [name for name in names if ratios[name] > limit.EXPLODED]:
        evidence = f"{text}; above {limit.EXPLODED:g} at {_span(large)}. {_listed(sizes)}"
        remedy = "Smaller starting weights (HeNormal or GlorotUniform), LayerNorm, optax.clip_by_global_norm."
        verdicts.append(Verdict("exploding error signals", _span(large), evidence, remedy))
    return Look(text, tuple(verdicts))


def _span(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1].removeprefix('layer ')}"


def _listed(sizes: dict[str, float]) -> str:
    """The rms of δ layer by layer, the first and last few of many."""
    cells = [f"{name.removeprefix('layer ')}: {shown(size)}" for name, size in sizes.items()]
    return "Layer by layer " + ", ".join(cells if len(cells) <= 12 else [*cells[:6], "…", *cells[-5:]]) + "."

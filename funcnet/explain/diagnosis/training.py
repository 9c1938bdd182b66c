"""What `diagnose` says of a training: its learning rate, its updates, and whether it overfits."""

from collections.abc import Iterator

import numpy as np

from funcnet.backprop import cost
from funcnet.explain.diagnosis import thresholds as limit
from funcnet.explain.diagnosis.evidence import Evidence, percent, shown
from funcnet.explain.diagnosis.trials import Trials, trials_of
from funcnet.explain.diagnosis.verdict import Look, Verdict
from funcnet.losses import BinaryCrossEntropy, CrossEntropy
from funcnet.train import History


def rate_suits(seen: Evidence) -> Look:
    if seen.optimizer is None:
        return Look("give optimizer=.", done=False)
    if not seen.flow:
        return Look("the network has no parameters.", done=False)
    trials = trials_of(seen)
    start, clearly, ends, *_ = trials
    middle, last = ends[1.0], max(ends)
    rates = ", ".join(f"{shown(end)} at {factor:g} ×" for factor, end in sorted(ends.items()))
    text = f"from cost {shown(start)}, {limit.STEPS} steps end at {rates} the rate"
    verdicts, gained = [], start - middle
    uphill = not seen.learned and start < ends.get(limit.UPHILL, 0.0) < np.inf
    moves = any(ratio > 0 for ratio in trials.moved.values())
    if uphill:
        remedy = (
            "Turn the sign. optax's scale_by_adam and its like give the gradient's direction: behind them stands "
            "optax.scale(-rate) or optax.scale_by_learning_rate(rate). If the sign is right, a far lower rate."
        )
        verdicts.append(Verdict("updates uphill", "optimizer", f"{text}: even small steps raise the cost.", remedy))
    elif not np.isfinite(middle) or middle - min(ends[0.1], start) > clearly:
        remedy = "A tenth of the rate or less, a schedule that warms up, or optax.clip_by_global_norm."
        verdicts.append(Verdict("learning rate too high", "optimizer", f"{text}.", remedy))
    elif not seen.learned and middle - ends[last] > clearly and gained < limit.PROGRESS * (start - ends[last]):
        remedy = f"{last:g} times the rate, or more (a schedule that is still warming up may be right)."
        if _large_targets(seen):
            remedy += " Or y scaled: (y - mean) / std."
        verdicts.append(Verdict("learning rate too low", "optimizer", f"{text}.", remedy))
    elif not moves and any(sizes["gradient"] > 0 for sizes in seen.flow.values()):
        evidence = f"over {limit.STEPS} steps no parameter moves, though the gradient is not 0."
        remedy = "A rate above 0; no optax.set_to_zero() and no mask that holds every layer fixed."
        verdicts.append(Verdict("updates too small", "optimizer", evidence, remedy))
    if not uphill:
        verdicts += _updates(seen, trials)
    moved = [ratio for ratio in trials.moved.values() if np.isfinite(ratio)]
    if moved:
        text += f"; an update is {shown(min(moved))} to {shown(max(moved))} of a layer's weights"
    return Look(text, tuple(verdicts))


def _large_targets(seen: Evidence) -> bool:
    y = np.asarray(seen.data.y, np.float64)
    classes = isinstance(seen.loss, (CrossEntropy, BinaryCrossEntropy))
    return not classes and bool(np.sqrt((y**2).mean()) > limit.TARGETS_LARGE)


def _updates(seen: Evidence, trials: Trials) -> Iterator[Verdict]:
    """Layers whose updates are far from 1e-3 of their weights."""
    # Weights that start at 0 are small beside any update; a layer held fixed has updates of exactly 0; where much
    # is learned already, small ones are right; and where a tenth of them does clearly worse, large ones.
    better = trials.ends[0.1] - trials.ends[1.0] > trials.clearly
    early = {} if better else {name: ratio for name, ratio in trials.early.items() if seen.flow[name]["weight"] > 0}
    moved = {} if seen.learned else trials.moved
    large = {name: ratio for name, ratio in early.items() if limit.UPDATE_LARGE < ratio < np.inf}
    small = {name: ratio for name, ratio in moved.items() if 0 < ratio < limit.UPDATE_SMALL}
    usual = f"about 1e-3 is usual, {limit.UPDATE_SMALL:g} … {limit.UPDATE_LARGE:g} accepted."
    if large:
        evidence = f"in the first {limit.FIRST} steps an update is {shown(max(large.values()))} of the weights; {usual}"
        remedy = "A lower learning rate, or larger starting weights in this layer."
        yield Verdict("updates too large", ", ".join(large), evidence, remedy)
    if small:
        evidence = f"over {limit.STEPS} steps an update is {shown(min(small.values()))} of the weights; {usual}"
        remedy = "A higher learning rate, or smaller starting weights in this layer."
        yield Verdict("updates too small", ", ".join(small), evidence, remedy)


def it_generalises(seen: Evidence) -> Look:
    if seen.history is None and seen.validation is None:
        return Look("give validation= or history=.", done=False)
    seen_here: list[str] = []
    verdicts: list[Verdict] = []
    overfits = False
    remedy = "More data, fn.L2 or Dropout, a smaller network, or fit(…, early_stopping=fn.EarlyStopping())."
    if seen.history is not None:
        verdicts += _not_finite(seen.history)
        text, overfits = _rise(seen)
        seen_here.append(text)
        if overfits:
            verdicts.append(Verdict("overfitting", "history", f"{text}.", remedy))
    if seen.validation is not None and seen.chance is not None:
        x, y = seen.validation.x, seen.validation.y
        held = float(cost(seen.net, seen.loss, seen.params, x, y))
        text = f"cost {shown(seen.cost)} on the training examples, {shown(held)} on validation"
        seen_here.append(text)
        if seen.learned and held - seen.cost > limit.GAP_TO_CHANCE * seen.chance and not overfits:
            gap = percent((held - seen.cost) / seen.chance)
            evidence = (
                f"{text}: a gap of {gap} of chance level ({shown(seen.chance)}), at most "
                f"{percent(limit.GAP_TO_CHANCE)} expected."
            )
            verdicts.append(Verdict("overfitting", "validation", evidence, remedy))
    return Look("; ".join(seen_here) or f"no constant output suits {seen.loss}.", tuple(verdicts), bool(seen_here))


def _last_epoch(history: History) -> int:
    """The epoch whose parameters the training gave, counted from 1: the best one after early stopping."""
    return int(history.best_epoch) or int(history.epochs)


def _not_finite(history: History) -> Iterator[Verdict]:
    for name in ("cost", "validation_cost"):
        bad = np.flatnonzero(~np.isfinite(history[name][: _last_epoch(history)]))
        if len(bad):
            evidence = f"{name} first not finite in epoch {bad[0] + 1}, in {len(bad)} of {_last_epoch(history)} epochs."
            remedy = "A lower learning rate, scaled inputs, or optax.clip_by_global_norm; start from fresh parameters."
            yield Verdict("cost not finite", "history", evidence, remedy)


def _rise(seen: Evidence) -> tuple[str, bool]:
    """How far the validation cost stood above its least at the end, and whether the training cost fell meanwhile."""
    assert seen.history is not None
    training, held = seen.history["cost"], seen.history["validation_cost"]
    epochs = np.flatnonzero((np.isfinite(training) & np.isfinite(held))[: _last_epoch(seen.history)])
    if not len(epochs):
        return "the history has no epoch with finite costs", False
    best, end = epochs[np.argmin(held[epochs])], epochs[-1]
    last = float(np.median(held[epochs[epochs >= best][-limit.LAST :]]))  # one epoch alone may be bad luck
    text = (
        f"validation cost {shown(held[best])} at its least (epoch {best + 1}), {shown(last)} at the end (median up to "
        f"epoch {end + 1}); the cost trained on, penalty included, {shown(training[best])} and {shown(training[end])}"
    )
    enough = max(limit.RISE * held[best], limit.RISE_TO_CHANCE * (seen.chance or 0.0))
    return text, bool(last - held[best] > enough and training[end] < (1 - limit.RISE) * training[best])

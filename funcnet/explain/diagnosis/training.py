"""What `diagnose` says of a training: its learning rate, its updates, and whether it overfits."""

from collections.abc import Iterator

import numpy as np

from funcnet.backprop import cost
from funcnet.explain.diagnosis import thresholds as limit
from funcnet.explain.diagnosis.evidence import Evidence, percent, shown
from funcnet.explain.diagnosis.trials import Trials, trials_of
from funcnet.explain.diagnosis.verdict import Look, Verdict


def rate_suits(seen: Evidence) -> Look:
    if seen.optimizer is None:
        return Look("give optimizer=.", done=False)
    if not seen.flow:
        return Look("the network has no parameters.", done=False)
    trials = trials_of(seen)
    start, clearly, ends, *_ = trials
    middle, last = ends[1.0], max(ends)
    rates = ", ".join(f"{shown(end)} at {factor:g} ×" for factor, end in ends.items())
    text = f"from cost {shown(start)}, {limit.STEPS} steps end at {rates} the rate"
    verdicts, gained = [], start - middle
    if not np.isfinite(middle) or middle - min(ends[0.1], start) > clearly:
        remedy = "A tenth of the rate or less, a schedule that warms up, or optax.clip_by_global_norm."
        verdicts.append(Verdict("learning rate too high", "optimizer", f"{text}.", remedy))
    elif not seen.learned and middle - ends[last] > clearly and gained < limit.PROGRESS * (start - ends[last]):
        verdicts.append(Verdict("learning rate too low", "optimizer", f"{text}.", f"{last:g} times the rate, or more."))
    verdicts += _updates(seen, trials)
    moved = [ratio for ratio in trials.moved.values() if np.isfinite(ratio)]
    if moved:
        text += f"; an update is {shown(min(moved))} to {shown(max(moved))} of a layer's weights"
    return Look(text, tuple(verdicts))


def _updates(seen: Evidence, trials: Trials) -> Iterator[Verdict]:
    """Layers whose updates are far from 1e-3 of their weights."""
    # Weights that start at 0 are small beside any update; a layer held fixed has updates of exactly 0; and where
    # much is learned already, small ones are right.
    early = {name: ratio for name, ratio in trials.early.items() if seen.flow[name]["weight"] > 0}
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
    seen_here, verdicts = [], []
    remedy = "More data, fn.L2 or Dropout, a smaller network, or fit(…, early_stopping=fn.EarlyStopping())."
    if seen.history is not None:
        text, sick = _rise(seen)
        seen_here.append(text)
        if sick:
            verdicts.append(Verdict("overfitting", "history", f"{text}.", remedy))
    if seen.validation is not None and seen.chance is not None:
        x, y = seen.validation.x, seen.validation.y
        held = float(cost(seen.net, seen.loss, seen.params, x, y))
        text = f"cost {shown(seen.cost)} on the training examples, {shown(held)} on validation"
        seen_here.append(text)
        if seen.learned and held - seen.cost > limit.GAP_TO_CHANCE * seen.chance and not verdicts:
            gap = percent((held - seen.cost) / seen.chance)
            evidence = (
                f"{text}: a gap of {gap} of chance level ({shown(seen.chance)}), at most "
                f"{percent(limit.GAP_TO_CHANCE)} expected."
            )
            verdicts.append(Verdict("overfitting", "validation", evidence, remedy))
    return Look("; ".join(seen_here) or f"no constant output suits {seen.loss}.", tuple(verdicts), bool(seen_here))


def _rise(seen: Evidence) -> tuple[str, bool]:
    """How far the validation cost stood above its least at the end, and whether the training cost fell meanwhile."""
    assert seen.history is not None
    training, held = seen.history["cost"], seen.history["validation_cost"]
    end = (int(seen.history.best_epoch) or len(held)) - 1  # early stopping gives the best epoch's parameters back
    best = int(np.argmin(held[: end + 1]))
    last = float(np.median(held[max(best, end + 1 - limit.LAST) : end + 1]))  # one epoch alone may be bad luck
    text = (
        f"validation cost {shown(held[best])} at its least (epoch {best + 1}), {shown(last)} at the end (median up to "
        f"epoch {end + 1}); the cost trained on, penalty included, {shown(training[best])} and {shown(training[end])}"
    )
    enough = max(limit.RISE * held[best], limit.RISE_TO_CHANCE * (seen.chance or 0.0))
    return text, bool(last - held[best] > enough and training[end] < (1 - limit.RISE) * training[best])

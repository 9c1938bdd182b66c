"""What `diagnose` says of a training: its learning rate, its updates, and whether it overfits."""

from collections.abc import Iterator

import numpy as np

from funcnet.diagnosis import thresholds as limit
from funcnet.diagnosis.evidence import Evidence, percent, shown
from funcnet.diagnosis.trials import Trials, trials_of
from funcnet.diagnosis.verdicts import Look, Verdict
from funcnet.propagation import cost
from funcnet.train.history import History


def rate_suits(facts: Evidence) -> Look:
    if facts.optimizer is None:
        return Look("give optimizer=.", done=False)
    if not facts.flow:
        return Look("the network has no parameters.", done=False)
    trials = trials_of(facts)
    start, clearly, ends, *_ = trials
    middle, last = ends[1.0], max(ends)
    rates = ", ".join(f"{shown(end)} at {factor:g} ×" for factor, end in sorted(ends.items()))
    text = f"from cost {shown(start)}, {limit.STEPS} steps end at {rates} the rate"
    verdicts, gained = [], start - middle
    uphill = not facts.learned and start < ends.get(limit.UPHILL, 0.0) < np.inf
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
    elif not facts.learned and middle - ends[last] > clearly and gained < limit.PROGRESS * (start - ends[last]):
        remedy = f"{last:g} times the rate, or more (a schedule that is still warming up may be right)."
        if _large_targets(facts):
            remedy += " Or y scaled: (y - mean) / std."
        verdicts.append(Verdict("learning rate too low", "optimizer", f"{text}.", remedy))
    elif not moves and any(sizes["gradient"] > 0 for sizes in facts.flow.values()):
        evidence = f"over {limit.STEPS} steps no parameter moves, though the gradient is not 0."
        remedy = "A rate above 0; no optax.set_to_zero() and no mask that holds every layer fixed."
        verdicts.append(Verdict("updates too small", "optimizer", evidence, remedy))
    if not uphill:
        verdicts += _updates(facts, trials)
    moved = [ratio for ratio in trials.moved.values() if np.isfinite(ratio)]
    if moved:
        text += f"; an update is {shown(min(moved))} to {shown(max(moved))} of a layer's weights"
    return Look(text, tuple(verdicts))


def _large_targets(facts: Evidence) -> bool:
    y = np.asarray(facts.data.y, np.float64)
    classes = hasattr(facts.loss, "probabilities")
    return not classes and bool(np.sqrt((y**2).mean()) > limit.TARGETS_LARGE)


def _updates(facts: Evidence, trials: Trials) -> Iterator[Verdict]:
    """Layers whose updates are far from 1e-3 of their weights."""
    # Weights that start at 0 are small beside any update; a layer held fixed has updates of exactly 0; where much
    # is learned already, small ones are right; and where a tenth of them does clearly worse, large ones.
    better = trials.ends[0.1] - trials.ends[1.0] > trials.clearly
    early = {} if better else {name: ratio for name, ratio in trials.early.items() if facts.flow[name]["weight"] > 0}
    moved = {} if facts.learned else trials.moved
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


def it_generalises(facts: Evidence) -> Look:
    if facts.history is None and facts.validation is None:
        return Look("give validation= or history=.", done=False)
    texts: list[str] = []
    verdicts: list[Verdict] = []
    overfits = False
    remedy = "More data, fn.L2 or Dropout, a smaller network, or fit(…, early_stopping=fn.EarlyStopping())."
    if facts.history is not None:
        verdicts += _not_finite(facts.history)
        text, overfits = _rise(facts)
        texts.append(text)
        if overfits:
            verdicts.append(Verdict("overfitting", "history", f"{text}.", remedy))
    if facts.validation is not None and facts.chance is not None:
        x, y = facts.validation.x, facts.validation.y
        validation = float(cost(facts.net, facts.loss, facts.params, x, y))
        text = f"cost {shown(facts.cost)} on the training examples, {shown(validation)} on validation"
        texts.append(text)
        if facts.learned and validation - facts.cost > limit.GAP_TO_CHANCE * facts.chance and not overfits:
            gap = percent((validation - facts.cost) / facts.chance)
            evidence = (
                f"{text}: a gap of {gap} of chance level ({shown(facts.chance)}), at most "
                f"{percent(limit.GAP_TO_CHANCE)} expected."
            )
            verdicts.append(Verdict("overfitting", "validation", evidence, remedy))
    return Look("; ".join(texts) or f"no constant output suits {facts.loss}.", tuple(verdicts), bool(texts))


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


def _rise(facts: Evidence) -> tuple[str, bool]:
    """How far the validation cost stood above its least at the end, and whether the training cost fell meanwhile."""
    assert facts.history is not None
    training, validation = facts.history["cost"], facts.history["validation_cost"]
    epochs = np.flatnonzero((np.isfinite(training) & np.isfinite(validation))[: _last_epoch(facts.history)])
    if not len(epochs):
        return "the history has no epoch with finite costs", False
    best, end = epochs[np.argmin(validation[epochs])], epochs[-1]
    last = float(np.median(validation[epochs[epochs >= best][-limit.LAST :]]))  # one epoch alone may be bad luck
    text = (
        f"validation cost {shown(validation[best])} at its least (epoch {best + 1}), {shown(last)} at the end (median "
        f"up to epoch {end + 1}); the cost trained on, penalty included, {shown(training[best])} and "
        f"{shown(training[end])}"
    )
    enough = max(limit.RISE * validation[best], limit.RISE_TO_CHANCE * (facts.chance or 0.0))
    return text, bool(last - validation[best] > enough and training[end] < (1 - limit.RISE) * training[best])

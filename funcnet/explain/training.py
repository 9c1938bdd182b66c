"""What `diagnose` says of a training: its learning rate, its updates, and whether it overfits."""

import numpy as np

from funcnet.backprop import cost
from funcnet.explain import thresholds as limit
from funcnet.explain.evidence import Evidence, percent, shown
from funcnet.explain.trials import trials_of
from funcnet.explain.verdict import Look, Verdict


def rate_suits(seen: Evidence) -> Look:
    if seen.optimizer is None:
        return Look("give optimizer=.", done=False)
    if not seen.flow:
        return Look("the network has no parameters.", done=False)
    trials = trials_of(seen)
    low, middle, high = (trials.ends[factor] for factor in (0.1, 1.0, 10.0))
    text = (
        f"from cost {shown(trials.start)}, {limit.STEPS} steps with a tenth of the rate, the rate and ten times it end "
        f"at {shown(low)}, {shown(middle)}, {shown(high)}"
    )
    verdicts, clearly, gained = [], limit.CLEARLY * max(seen.size, trials.start), trials.start - middle
    if not np.isfinite(middle) or middle - min(low, trials.start) > clearly:
        remedy = "A tenth of the rate or less, a schedule that warms up, or optax.clip_by_global_norm."
        verdicts.append(Verdict("learning rate too high", "optimizer", f"{text}.", remedy))
    elif not seen.learned and middle - high > clearly and gained < limit.PROGRESS * (trials.start - high):
        verdicts.append(Verdict("learning rate too low", "optimizer", f"{text}.", "Ten times the rate or more."))
    moved = {name: ratio for name, ratio in trials.moved.items() if 0 < ratio < np.inf}
    if moved:
        text += f"; an update is {shown(min(moved.values()))} to {shown(max(moved.values()))} of a layer's weights"
    return Look(text, (*verdicts, *_updates(moved, seen.learned)))


def _updates(moved: dict[str, float], learned: bool) -> list[Verdict]:
    """Layers whose updates are far from 1e-3 of their weights. Where much is learned, small ones are right."""
    large = {name: ratio for name, ratio in moved.items() if ratio > limit.UPDATE_LARGE}
    small = {} if learned else {name: ratio for name, ratio in moved.items() if ratio < limit.UPDATE_SMALL}
    verdicts = []
    for layers, name, way in ((large, "updates too large", "lower"), (small, "updates too small", "higher")):
        if layers:
            worst = (max if layers is large else min)(layers.values())
            evidence = (
                f"an update is {shown(worst)} of the weights' size on average over {limit.STEPS} steps; about 1e-3 is "
                f"usual, {limit.UPDATE_SMALL:g} … {limit.UPDATE_LARGE:g} accepted."
            )
            remedy = f"A {way} learning rate, or look at how the weights of this layer start."
            verdicts.append(Verdict(name, ", ".join(layers), evidence, remedy))
    return verdicts


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
    rise = held[end] - held[best]
    text = (
        f"validation cost {shown(held[best])} at its least (epoch {best + 1}), {shown(held[end])} after epoch "
        f"{end + 1}; training cost {shown(training[best])} and {shown(training[end])}"
    )
    enough = max(limit.RISE * held[best], limit.RISE_TO_CHANCE * (seen.chance or 0.0))
    return text, bool(rise > enough and training[end] < training[best])

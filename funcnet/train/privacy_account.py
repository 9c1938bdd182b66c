"""Private training (DP-SGD): Poisson batches of a fixed shape, and the account of the privacy loss."""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import numpy as np

from funcnet._core import scalars
from funcnet._core.logs import quietly
from funcnet._core.specs import spec

OVERFLOW = 1e-12  # the probability that a step draws more examples than its batch has room for
OVERFLOW_SHARE = 0.01  # of delta, reserved for that


@spec
class Privacy:
    """What makes a training private: clipping, noise, and the δ for which ε is computed.

    A step takes every example with probability q = batch_size / m (Poisson sampling), sums their
    clipped gradients, adds σ max_norm times normal noise, and divides by batch_size:
    `private_gradient`. After k steps the parameters are (ε, δ)-private with regard to one example more
    or less; ε is in the history after every epoch.

    A batch has room for more than batch_size examples, and a step that draws more than fit, which
    happens with a probability below 1e-12, leaves the last ones out. What that may give away is paid
    from 1 % of δ, so ε is reckoned at 0.99 δ and the account is true for up to δ · 10¹⁰ steps.

    ε counts the epochs of one `fit`, or of one training taken up again from its checkpoint. A second `fit` from
    the state of a first, which warns and says so in `history.note`, or each training of a `fit_many` whose result is
    used, spends its own: they add up.

    Private are the parameters (and the optimiser's state). The recorded costs and metrics of the training
    data are not, nor is a choice of settings made by looking at them: give validation data of other people.

    Args:
        max_norm: how long an example's gradient may be, above 0.
        noise_multiplier: σ, above 0; `noise_multiplier` finds it for a wanted ε.
        delta: δ, well below 1/m.
        per_layer: clip each layer by itself, as in `clipped_gradient`.

    Raises:
        ValueError: a number out of its range.

    Source: Abadi et al., 2016; Mironov, Talwar and Zhang, 2019 (the account, by Rényi divergences).

    Example:
        >>> import funcnet as fn
        >>> fn.Privacy(max_norm=1.0, noise_multiplier=1.1)
        Privacy(1.0, 1.1)
    """

    max_norm: float
    noise_multiplier: float
    delta: float = 1e-5
    per_layer: bool = False

    def __post_init__(self) -> None:
        if self.max_norm <= 0 or self.noise_multiplier <= 0 or not 0 < self.delta < 1:
            raise ValueError(f"{self}: max_norm and noise_multiplier must be above 0, delta between 0 and 1.")

    def epsilons(self, examples: int, batch_size: int, epochs: int) -> np.ndarray:
        """(epochs,): ε after each epoch of ⌈examples / batch_size⌉ steps.

        Raises:
            ImportError: dp-accounting is not installed.
        """
        return np.array(_epsilons(self, examples, batch_size, epochs))


def privacy_numbers(privacy: Privacy) -> dict[str, Any]:
    """What a `Privacy` is made from, by name."""
    return dataclasses.asdict(privacy)


def not_carried_on(updates: int) -> str:
    """One sentence for a private training from a state that was trained before."""
    return (
        f"privacy: epsilon counts this fit alone. The {updates} updates made before it are not in it: if they were "
        "private, on the same data, theirs adds to it; if they were made on public data, nothing is missing."
    )


def noise_multiplier(epsilon: float, *, delta: float, examples: int, batch_size: int, epochs: int) -> float:
    """The σ for which `epochs` of private training end at this ε.

    Args:
        epsilon: the wanted ε, above 0.
        delta: δ.
        examples: m.
        batch_size: the expected one.
        epochs: how many there will be.

    Returns:
        σ, for `Privacy(max_norm, σ, delta)`.

    Raises:
        ImportError: dp-accounting is not installed.
        ValueError: a number out of its range.

    Example:
        >>> import funcnet as fn
        >>> sigma = fn.noise_multiplier(2.0, delta=1e-5, examples=60000, batch_size=256, epochs=15)
        >>> round(sigma, 2)
        0.9
    """
    epsilon = scalars.number(
        "noise_multiplier: epsilon", epsilon, "a number above 0", lambda value: 0 < value < math.inf
    )
    delta = scalars.number("noise_multiplier: delta", delta, "a number between 0 and 1", lambda value: 0 < value < 1)
    examples = scalars.integer("noise_multiplier: examples", examples, "a whole number, 1 or more", 1)
    batch_size = scalars.integer("noise_multiplier: batch_size", batch_size, f"1 to examples, {examples}", 1, examples)
    epochs = scalars.integer("noise_multiplier: epochs", epochs, "a whole number, 1 or more", 1)
    dp, rdp = accounting()

    def event(sigma: float) -> Any:
        return dp.SelfComposedDpEvent(_step(sigma, examples, batch_size), epochs * -(-examples // batch_size))

    with quietly():
        sigma = dp.calibrate_dp_mechanism(rdp.RdpAccountant, event, epsilon, (1 - OVERFLOW_SHARE) * delta)
    return float(sigma)


@lru_cache(maxsize=64)
def _epsilons(privacy: Privacy, examples: int, batch_size: int, epochs: int) -> tuple[float, ...]:
    _, rdp = accounting()
    account, step, epsilons = rdp.RdpAccountant(), _step(privacy.noise_multiplier, examples, batch_size), []
    with quietly():
        for _ in range(epochs):
            account.compose(step, -(-examples // batch_size))
            epsilons.append(float(account.get_epsilon((1 - OVERFLOW_SHARE) * privacy.delta)))
    return tuple(epsilons)


def _step(sigma: float, examples: int, batch_size: int) -> Any:
    """One step as an accountant sees it."""
    dp, _ = accounting()
    return dp.PoissonSampledDpEvent(batch_size / examples, dp.GaussianDpEvent(sigma))


def capacity(m: int, batch_size: int, parts: int) -> int:
    """How many examples a Poisson batch has room for, in equal parts.

    By Bernstein's inequality P(more than batch_size + t) ≤ exp(-t² / (2 (batch_size + t/3))) = 1e-12.
    """
    log = -math.log(OVERFLOW)
    t = log / 3 + math.sqrt(log * log / 9 + 2 * batch_size * log)
    room = min(m, batch_size + math.ceil(t))
    return -(-room // parts) * parts


def accounting() -> tuple[Any, Any]:
    try:
        import dp_accounting
        from dp_accounting import rdp
    except ImportError as error:
        raise ImportError(
            "The account of privacy needs dp-accounting. In the clone of funcnet: "
            ".venv/bin/pip install -e '.[privacy]'."
        ) from error
    return dp_accounting, rdp

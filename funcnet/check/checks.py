"""The three checks. They alone in funcnet use automatic differentiation, to compare with."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from funcnet._core import arguments, scalars, walkers
from funcnet._core.context import Context
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Params, Penalty, Tree
from funcnet._core.weighting import Reduction, averaged
from funcnet.check.answers import answer_of, remarks, roundings, terms_of
from funcnet.check.differences import compare
from funcnet.check.laws import laws
from funcnet.check.passes import compiled
from funcnet.check.reports import Report
from funcnet.check.widening import float64, widened
from funcnet.propagation import backprop, cost, value_and_grad

ENTRIES = 1000


def check_gradients(
    net: AnyLayer,
    loss: Loss,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    *,
    grads: Tree | None = None,
    weights: ArrayLike | None = None,
    penalty: Penalty | None = None,
    key: ArrayLike | None = None,
    reduction: Reduction = "mean",
    entries: int = ENTRIES,
    seed: int = 0,
) -> Report:
    """`value_and_grad` against `jax.grad` of `cost` and against finite differences, in float64.

    Every entry of every parameter, and of the input, is compared with the automatic derivative;
    up to `entries` of each (all, or a seeded sample), and all where the two disagree (of more than 5000 a
    sample: the report says so), with central differences of step 1e-5. The
    relative error is |g - n| / max(|g|, |n|, 10⁻² · largest entry); below 1e-7 it is right, above
    1e-2 wrong. Where one-sided differences disagree, as at the kink of a ReLU, any slope between
    them is right, and the entry is counted as a kink. A few examples are enough, and fast.

    With `grads`, somebody's own answer for ∂J/∂params takes the place of `value_and_grad`. It is judged in the coarser
    of its type and the parameters': what an entry misses by rounding is no error (64 times what our own pass in that
    type loses), and the rest is measured against the entry itself, however small it is. An answer that is a multiple
    of the gradient, such as the sum where J is a mean, or is transposed, is told of.

    Args:
        net, loss, params, x, y, weights, penalty, key, reduction: as for `cost`, of any floating type; x may be a pair
            (x, segment_ids). What a layer draws with a key depends on `jax_enable_x64`; here it is enabled.
        grads: an answer to check: a tree like params, or a list of dicts {"w": …, "b": …}, one for each layer that has
            parameters; of NumPy's or JAX's arrays or lists of numbers. None checks funcnet's.
        entries: how many entries of a leaf to difference.
        seed: of the sample beyond that.

    Returns:
        A `Report`: it prints as a table, has `.ok` and `.raise_if_wrong()`.

    Raises:
        ValueError: `grads` of another structure or shape, with the layer's name and both shapes; else what `cost`
            raises.
        TypeError: `grads` that holds no real numbers; else what `cost` raises.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.mlp((2, 3, 1))
        >>> params = fn.init(net, jax.random.key(0))
        >>> batch = jnp.ones((4, 2)), jnp.ones((4, 1))
        >>> fn.check_gradients(net, fn.SquaredError(), params, *batch).ok
        True
        >>> _, answer = fn.value_and_grad(net, fn.SquaredError(), params, *batch, reduction="sum")
        >>> report = fn.check_gradients(net, fn.SquaredError(), params, *batch, grads=answer)
        >>> report.remarks
        ('The answer is 4 times the gradient in every entry: it is the sum over the examples, not their mean.',)
    """
    _check_request(entries, seed, params, x, y, grads)
    types = [getattr(leaf, "dtype", np.dtype(np.float64)) for leaf in jax.tree.leaves(params)]
    with float64():
        params, x, y, weights, penalty = widened((params, x, y, weights, penalty))
        options: dict[str, Any] = {"weights": weights, "penalty": penalty, "key": key, "reduction": reduction}
        x, segments = arguments.unpacked(x)
        # Here, since values are not known under jit.
        batch = arguments.checked_batch(net, loss, params, x, y, weights, key, segments)
        params, x = batch.params, batch.x
        if not len(x):
            raise ValueError("x: expected one example or more, got none.")

        def input_of(at: Tree) -> Any:
            return _input(at, x) if segments is None else (_input(at, x), segments)

        def J(at: Tree) -> jax.Array:
            return cost(net, loss, at[0], input_of(at), y, **options)

        def by_hand(at: Tree) -> Tree:
            _, grads = value_and_grad(net, loss, at[0], input_of(at), y, **options)
            if len(at) == 1:
                return (grads,)
            bp = backprop(net, loss, at[0], input_of(at), y, weights=weights, key=key)
            return grads, averaged(bp.input_delta, loss.value(bp.output, batch.y), batch.weights, reduction)

        def measured(at: Tree) -> tuple[jax.Array, jax.Array]:
            return J(at), jnp.abs(J(at))

        title, sample = f"{net}, {loss}, {len(x)} examples", {"entries": entries, "seed": seed}
        if grads is None:
            at = _variables(params, x)
            hand, automatic = jax.jit(by_hand)(at), jax.jit(jax.grad(J))(at)
            return Report(f"{title}, float64", compare(measured, at, _names(at), hand, automatic, **sample))
        answer = answer_of(params, grads, types)
        at, names, own = (params,), _names((params,)), (answer.grads,)
        automatic, inputs = jax.jit(jax.grad(J))(at), input_of(at)
        options["weights"] = batch.weights
        allowed = (roundings(net, loss, params, inputs, batch.y, options, answer.dtype, automatic[0]),)
        rows = compare(measured, at, names, own, automatic, **sample, allowed=allowed)
        terms = terms_of(net, loss, params, inputs, batch.y, batch.weights)
        said = remarks(names, own, automatic, allowed, terms, reduction)
        return Report(f"An answer in {answer.dtype}: {title}", rows, judged="answer", remarks=said)


def check_layer(
    layer: AnyLayer,
    params: Params,
    x: ArrayLike,
    *,
    key: ArrayLike | None = None,
    entries: int = ENTRIES,
    seed: int = 0,
) -> Report:
    """A layer's `backward` and `gradient` against its `forward`, and the laws of a layer, in float64.

    With a seeded δ, the derivatives of Σ δ ⊙ forward(params, x) are compared as `check_gradients`
    compares them. The laws, each a line of the report:

    - Shapes: parameters are a dict of arrays for each leaf layer; tape and deltas have examples first;
      `contract` takes f at every leaf layer once, in a tree like the parameters.
    - Examples: `backward` and `gradient` are linear in δ; an example's output and error signal do not depend
      on its batch; the gradient of a batch is the sum of those of its examples, and a row of tape and deltas
      holds all of its example; what is not finite in one example stays there; integers have no error signal.
    - Claims: `example_gradients`, `square_norms`, `square_sum`, `inner` and `as_dense` are those of the examples' own
      gradients, and with `by_position` positions are as examples.
    - Independence: `backward` reads no additive parameter (one called `b`) and makes nothing of the forward
      pass again from the parameters, so that other ones may take their place (`FeedbackAlignment`); without
      a declared key the output depends on none; another segment's input changes nothing; no state.
    - Types: float32 stays float32, and the gradient of a bfloat16 tape is float32.

    A law that presupposes a broken one is left out.

    Args:
        layer: a layer, of yours or of funcnet's, or a whole network.
        params: its parameters.
        x: (m, *positions, features), or integers (m, *positions); two examples or more, best all different,
            and with positions where the layer takes them.
        key: for a layer that draws; it is split, one for each example.
        entries, seed: as for `check_gradients`.

    Returns:
        A `Report`, with `.laws`.

    Raises:
        TypeError: `layer` is not a layer: it lacks one of the four functions, which is named.
        ValueError: fewer than two examples; parameters that are not the layer's; a `gradient`
            that is not shaped like the parameters.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> layer = fn.Dense(2, 3)
        >>> params = layer.init(jax.random.key(0))
        >>> fn.check_layer(layer, params, jnp.ones((4, 2))).ok
        True
    """
    _check_request(entries, seed, params, x)
    arguments.check_layer_functions(layer, "layer")
    with float64():
        params, x = widened((params, x))
        params, x, given = arguments.checked_input(layer, params, x, key)
        arguments.refuse_non_finite("x", x)
        if len(x) < 2:
            raise ValueError(
                f"check_layer: x: expected two examples or more, to see that they do not mix, got {len(x)}."
            )
        keys = given if given is None or given.ndim else jax.random.split(given, len(x))
        y = jax.eval_shape(lambda p, a: walkers.layer_forward(layer, p, a, Context(keys))[0], params, x)
        delta, other = (np.random.default_rng(seed + i).normal(size=y.shape) for i in (0, 1))
        result = compiled(layer, params, x, delta, keys)
        arguments.check_like_params(layer, result.grads, params)
        at = _variables(params, x)
        hand = (result.grads, result.input_delta)[: len(at)]

        def output(at: Tree) -> jax.Array:
            return walkers.layer_forward(layer, at[0], _input(at, x), Context(keys))[0]

        rows = _compared(output, delta, at, _names(at), hand, entries, seed)
        return Report(f"{layer}, {len(x)} examples, float64", rows, tuple(laws(layer, params, x, delta, other, keys)))


def check_function(
    f: Callable[..., jax.Array], params: Params, x: ArrayLike, *, entries: int = ENTRIES, seed: int = 0
) -> Report:
    """Any `f(params, x)` with a `jax.custom_vjp` rule against finite differences, in float64.

    With a seeded δ, what `jax.grad` makes of Σ δ ⊙ f(params, x), which is the custom rule, is
    compared with central differences as in `check_gradients`. There is no automatic derivative
    to compare with, so beyond `entries` a leaf is sampled.

    Args:
        f: a function of params and x that gives one array, float64 for float64.
        params: any pytree of floating arrays.
        x: a floating array.
        entries, seed: as for `check_gradients`.

    Returns:
        A `Report`.

    Raises:
        TypeError: f gives no float64 array for float64 arguments.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.Dense(2, 3)
        >>> fn.check_function(fn.as_function(net), fn.init(net, jax.random.key(0)), jnp.ones((4, 2))).ok
        True
    """
    _check_request(entries, seed, params, x)
    if not callable(f):
        raise TypeError(f"f: expected a function of params and x, got {arguments.shown(f)}.")
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(arguments.as_array("params", leaf).dtype, jnp.floating):
            raise TypeError(
                f"params: expected a tree of floating arrays, but one of its leaves is {arguments.shown(leaf)}."
            )
    with float64():
        at = widened((params, arguments.as_array("x", x)))
        if not jnp.issubdtype(at[1].dtype, jnp.floating):
            raise TypeError(f"x: expected a floating array, got {arguments.shown(at[1])}.")
        arguments.refuse_non_finite("x", at[1])
        y = f(*at)
        if getattr(y, "dtype", None) != jnp.float64:
            raise TypeError(
                f"check_function: f gave {arguments.shown(y)} for float64 arguments, expected one float64 array. "
                "Finite differences need it: remove the cast inside f."
            )
        delta = jnp.asarray(np.random.default_rng(seed).normal(size=y.shape))
        hand = jax.grad(lambda at: jnp.sum(delta * f(*at)))(at)
        names = [f"params{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(at[0])]
        rows = _compared(lambda at: f(*at), delta, at, [*names, "input"], hand, entries, seed, automatic=False)
    return Report(f"{getattr(f, '__name__', f)}, {y.shape} outputs, float64", rows)


def _compared(
    output: Callable[[Tree], jax.Array],
    delta: jax.Array,
    at: Tree,
    names: list[str],
    hand: Tree,
    entries: int,
    seed: int,
    automatic: bool = True,
) -> Any:
    """Rows for J = Σ δ ⊙ output."""

    def J(at: Tree) -> tuple[jax.Array, jax.Array]:
        terms = delta * output(at)
        return jnp.sum(terms), jnp.sum(jnp.abs(terms))

    derivative = jax.jit(jax.grad(lambda at: J(at)[0]))(at) if automatic else None
    return compare(J, at, names, hand, derivative, entries=entries, seed=seed)


def _variables(params: Params, x: jax.Array) -> Any:
    """What to differentiate by: x too, unless it holds integers."""
    return (params, x) if jnp.issubdtype(x.dtype, jnp.floating) else (params,)


def _input(at: Tree, x: jax.Array) -> jax.Array:
    return at[1] if len(at) > 1 else x


def _names(at: Tree) -> list[str]:
    return [*(name for name, _ in walkers.named_params(at[0])), *(["input"] if len(at) > 1 else [])]


def _check_request(entries: int, seed: int, *values: Any) -> None:
    scalars.integer("entries", entries, "1 or more", 1)
    scalars.seed("seed", seed)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values)):
        raise ValueError("A check reads values, which is not supported inside jit or vmap. Call it outside.")

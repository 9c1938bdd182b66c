"""`generate`: a text goes on, one token after the other, in one compiled loop."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from funcnet._core import arguments, scalars
from funcnet._core.context import Context
from funcnet._core.keys import typed
from funcnet._core.numerics import wide
from funcnet._core.protocols import AnyLayer, ArrayLike, Params
from funcnet._core.specs import spec
from funcnet._core.walkers import has_step, layer_forward, layer_step, leaves, map_leaves


def generate(
    net: AnyLayer,
    params: Params,
    tokens: ArrayLike | tuple[ArrayLike, ArrayLike],
    length: int,
    key: jax.Array | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
) -> jax.Array:
    """Texts that go on: each token is drawn from what the network says of the next one, and read in turn.

    A step propagates one position. Layers in which positions meet keep a cache of those before: keys and values of an
    `Attention`, the state of a `GRU`. A network with a layer that has no such step is propagated over the whole text
    for every token. A row's draws do not depend on the others.

    Args:
        net: a layer of integers (m, T) that gives logits (m, T, vocabulary), none of which depends on later tokens.
        params: its parameters.
        tokens: prompts (m, T). Shorter ones are filled up behind, (tokens, segment_ids), with 0 in segment_ids where
            they are; such a row goes on where its prompt ends.
        length: tokens to add to the longest prompt.
        key: what tokens are drawn with; None at temperature 0.
        temperature: logits are divided by it; below 1 likely tokens become likelier, at 0 the likeliest is taken.
        top_k: draw from the k likeliest alone.
        top_p: draw from the fewest tokens that have this probability together (Holtzman et al., 2020).
        stop: the token that ends a text; what follows in its row is this token, too.

    Returns:
        (m, T + length), of the prompt's type.

    Raises:
        TypeError: tokens that are not integers; a key missing or without use; an argument of the wrong kind.
        ValueError: a number out of its range; more positions than the network has; a layer that may look ahead.

    Example:
        >>> import funcnet as fn, jax
        >>> net = fn.gpt(vocabulary=96, length=64, n=32, heads=4, depth=2)
        >>> params = fn.init(net, jax.random.key(0))
        >>> fn.generate(net, params, [[1, 2, 3]], 5, jax.random.key(1), top_k=10).shape
        (1, 8)
    """
    prompts, sizes = _prompts(tokens)
    length = scalars.integer("generate: length", length, "a number of tokens to add, 0 or more", 0, 2**31 - 1)
    params, prompts, _ = arguments.checked_input(net, params, prompts)
    vocabulary = _vocabulary(net, params, len(prompts), prompts.shape[1] + length)
    stepping = has_step(net)
    if not stepping:
        _refuse_looking_ahead(net)
    drawn = _checked_draw(vocabulary, key, temperature, top_k, top_p, stop)
    sharpness = (1.0 if drawn.likeliest else 1 / temperature), (1.0 if top_p is None else top_p)
    kind = wide(jnp.zeros((), jax.tree.leaves(params)[0].dtype)).dtype
    return _texts(net, length, drawn, stepping, params, prompts, sizes, key, *(jnp.asarray(a, kind) for a in sharpness))


@spec
class Draw:
    """How a token comes of logits: what a program depends on."""

    likeliest: bool
    top_k: int | None
    has_top_p: bool
    stop: int | None

    def __call__(self, logits: jax.Array, key: jax.Array | None, sharpness: jax.Array, top_p: jax.Array) -> jax.Array:
        if self.likeliest or key is None:
            return jnp.argmax(logits, -1)
        logits = wide(logits) * sharpness
        if self.top_k is not None:
            least = lax.top_k(logits, self.top_k)[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        if self.has_top_p:
            ordered = jnp.sort(logits, -1)[:, ::-1]
            p = jax.nn.softmax(ordered)
            needed = jnp.cumsum(p, -1) - p < top_p  # those before it do not reach top_p
            least = jnp.min(jnp.where(needed, ordered, jnp.inf), -1, keepdims=True)
            logits = jnp.where(logits < least, -jnp.inf, logits)
        keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(logits)))
        return jax.vmap(jax.random.categorical)(keys, logits)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _texts(
    net: AnyLayer,
    length: int,
    drawn: Draw,
    stepping: bool,
    params: Params,
    prompts: jax.Array,
    sizes: jax.Array | None,
    key: jax.Array | None,
    sharpness: jax.Array,
    top_p: jax.Array,
) -> jax.Array:
    m, T = prompts.shape
    texts = jnp.pad(prompts, ((0, 0), (0, length)), constant_values=0 if drawn.stop is None else drawn.stop)
    sizes = jnp.full(m, T) if sizes is None else sizes
    kind = jax.tree.leaves(params)[0].dtype
    cache = map_leaves(net, lambda leaf: _empty(leaf, m, T + length, kind)) if stepping else ()

    def going_on(state: Any) -> jax.Array:
        place, _, _, ended = state
        return (place < T + length - 1) & ~ended.all()

    def one(state: Any) -> Any:
        place, texts, cache, ended = state
        if stepping:
            logits, cache = layer_step(net, params, jnp.take(texts, place, 1), cache, place)
        else:
            there = jnp.broadcast_to((jnp.arange(T + length) <= place)[None].astype(jnp.int32), texts.shape)
            output, _ = layer_forward(net, params, texts, Context(None, there))
            logits = jnp.take(output, place, 1)
        own = None if key is None else jax.random.fold_in(typed(key), place)
        new = drawn(logits, own, sharpness, top_p).astype(texts.dtype)
        given = place + 1 < sizes
        if drawn.stop is not None:
            new = jnp.where(ended, drawn.stop, new).astype(texts.dtype)
            ended = ended | (~given & (new == drawn.stop))
        new = jnp.where(given, jnp.take(texts, place + 1, 1), new)
        return place + 1, lax.dynamic_update_slice_in_dim(texts, new[:, None], place + 1, 1), cache, ended

    start = jnp.zeros((), int), texts, cache, jnp.zeros(m, bool)
    return lax.while_loop(going_on, one, start)[1]


def _empty(leaf: Any, m: int, length: int, dtype: Any) -> Any:
    return leaf.cache(m, length, dtype) if hasattr(leaf, "cache") else ()


def _prompts(tokens: Any) -> tuple[Any, jax.Array | None]:
    """Prompts, and how long each is, if they are not equally long."""
    tokens, segments = arguments.unpacked(tokens)
    prompts = _checked(tokens)
    if segments is None:
        return prompts, None
    sizes = (segments > 0).sum(1)
    if not isinstance(segments, jax.core.Tracer):
        behind = np.arange(prompts.shape[1])[None] >= np.asarray(sizes)[:, None]
        if ((np.asarray(segments) > 0) == behind).any() or not np.asarray(sizes).all():
            raise ValueError("segment_ids: expected a token or more in each row, and 0 behind them alone.")
    return prompts, sizes


def _checked(tokens: Any) -> jax.Array:
    prompts = arguments.as_array("tokens", tokens)
    if prompts.ndim != 2 or not prompts.shape[1] or not jnp.issubdtype(prompts.dtype, jnp.integer):
        raise TypeError(
            f"tokens: expected integers (m, T) with a token or more, got {arguments.shown(prompts)}. Use tokens[None] "
            "for one text."
        )
    return prompts


def _vocabulary(net: AnyLayer, params: Params, m: int, size: int) -> int:
    """How many tokens the network gives logits of; it takes so many positions, or says how many it has."""
    texts = jax.ShapeDtypeStruct((m, size), jnp.int32)
    output = jax.eval_shape(lambda params, x: layer_forward(net, params, x)[0], params, texts)
    if output.shape[:-1] != texts.shape:
        raise ValueError(f"net: expected logits (m, T, vocabulary) of tokens (m, T), got shape {output.shape}.")
    return output.shape[-1]


def _refuse_looking_ahead(net: AnyLayer) -> None:
    for _, leaf in leaves(net):
        sees_none = getattr(leaf, "by_position", False) or getattr(leaf, "causal", False)
        if not (sees_none or getattr(leaf, "step", None) or "segments" in (getattr(leaf, "takes", None) or ())):
            raise ValueError(
                f"generate: {leaf} may look ahead, to tokens that are not there yet. (A layer of your own that does "
                "not says so by the class attribute causal = True.)"
            )


def _checked_draw(vocabulary: int, key: Any, temperature: Any, top_k: Any, top_p: Any, stop: Any) -> Draw:
    temperature = scalars.number("generate: temperature", temperature, "0 or more", lambda t: 0 <= t < np.inf)
    if temperature == 0 and key is not None:
        raise TypeError("key: at temperature 0 the likeliest token is taken, so a key has no use. Leave key out.")
    if temperature > 0:
        arguments.one_key("key", key)
    if top_k is not None:
        top_k = scalars.integer("generate: top_k", top_k, f"1 to {vocabulary} tokens", 1, vocabulary)
    if top_p is not None:
        scalars.number("generate: top_p", top_p, "a probability above 0", lambda p: 0 < p <= 1)
    if stop is not None:
        stop = scalars.integer("generate: stop", stop, f"a token, 0 to {vocabulary - 1}", 0, vocabulary - 1)
    return Draw(temperature == 0, top_k, top_p is not None, stop)

"""`gpt`: the usual transformer, made of the layers."""

import math
from collections.abc import Callable

from funcnet._core.arguments import check_layer_functions
from funcnet._core.protocols import AnyLayer
from funcnet._core.scalars import flag, integer, number
from funcnet.initializers import Normal
from funcnet.layers.activations import GELU, SiLU
from funcnet.layers.attention import Attention
from funcnet.layers.combinators import Chain, Residual
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.embedding import Embedding, Tied
from funcnet.layers.gating import Gated
from funcnet.layers.normalization import LayerNorm
from funcnet.layers.positions import LearnedPositions, Rotary
from funcnet.layers.stacks import Remat, Repeat

STD = 0.02
MOST_BLOCKS = 10_000  # more than Python should build one by one


def gpt(
    vocabulary: int,
    length: int,
    n: int,
    heads: int,
    depth: int,
    *,
    tied: bool = True,
    norm: Callable[[int], AnyLayer] = LayerNorm,
    rotary: bool = False,
    gated: bool = False,
    kv_heads: int | None = None,
    hidden: int | None = None,
    bias: bool = True,
    causal: bool = True,
    dropout: float = 0.0,
    repeat: bool = False,
    remat: bool = False,
) -> AnyLayer:
    """The usual transformer: logits of the next token at every position.

    Tokens (m, T), T ≤ length, become rows of a table plus those of their positions; `depth` blocks follow, and a norm,
    and the table again. A block is x + attention(norm(x)), then x + feed-forward(norm(x)) ("pre-norm"). GPT-2's shape
    as it stands; Llama's with `norm=RMSNorm, rotary=True, gated=True, bias=False, tied=False, kv_heads=…`.

    Weights start at Normal(0.02), those at the end of a branch at 0.02/√(2 depth), biases at 0 (Radford et al., 2019).

    Args:
        vocabulary: how many tokens there are.
        length: the most positions, for the table of positions; with `rotary` there is no such limit.
        n: features of a position.
        heads: attention heads, a divisor of n.
        depth: number of blocks.
        tied: whether the logits are read from the table of tokens; otherwise from a `Dense` without bias.
        norm: makes a norm of n features: `LayerNorm`, `RMSNorm`.
        rotary: turn queries and keys (`Rotary`) in place of learned positions.
        gated: SwiGLU in place of GELU.
        kv_heads: heads of keys and values; None: as many.
        hidden: units of the feed-forward layers; None: 4 n, gated ⌈8 n/3⌉.
        bias: whether each `Dense` has one (those of gated feed-forward layers have none).
        causal: whether a position sees only those before it.
        dropout: rate after the embedding and at the end of every branch.
        repeat: one loop over the blocks (`Repeat`): its program does not grow with the depth.
        remat: make each block's tape again when it is needed (`Remat`).

    Returns:
        A layer of integers (m, T) that gives logits (m, T, vocabulary).

    Raises:
        TypeError, ValueError: what the layers refuse.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> net = fn.gpt(vocabulary=96, length=64, n=32, heads=4, depth=2)
        >>> fn.predict(net, fn.init(net, jax.random.key(0)), jnp.zeros((3, 50), int)).shape
        (3, 50, 96)
    """
    integer("gpt: depth", depth, f"a number of blocks, 1 to {MOST_BLOCKS}", 1, MOST_BLOCKS)
    integer("gpt: length", length, "a number of positions, 1 or more", 1)
    switches = {"tied": tied, "rotary": rotary, "gated": gated, "repeat": repeat, "remat": remat}
    for name, value in switches.items():
        flag(f"gpt: {name}", value)
    if not callable(norm):
        raise TypeError(f"gpt: norm makes a norm of n features: expected a class such as RMSNorm, got {norm!r}.")
    check_layer_functions(norm(n), "gpt: norm")
    attention = Attention(n, heads, kv_heads, causal)
    if rotary and n % (2 * heads):
        raise ValueError(
            f"gpt: rotary turns pairs of features, and {n} features are no pairs in each of {heads} heads."
        )
    last = Normal(STD / math.sqrt(2 * depth))
    dropout = number("gpt: dropout", dropout, "at least 0 and below 1", lambda rate: 0 <= rate < 1)
    drop = (Dropout(dropout),) if dropout else ()
    keys = heads if kv_heads is None else kv_heads
    turn = (Rotary(heads + 2 * keys, heads + keys),) if rotary else ()
    units = hidden
    if units is not None:
        integer("gpt: hidden", units, "a number of units, 1 or more, or None", 1)
    else:
        units = math.ceil(8 * n / 3) if gated else 4 * n

    branches = (
        Chain(
            norm(n),
            Dense(n, attention.n_in, bias, Normal(STD)),
            *turn,
            attention,
            Dense(n, n, bias, last),
            *drop,
            name="attention",
        ),
        Chain(
            norm(n),
            Dense(n, (2 if gated else 1) * units, bias and not gated, Normal(STD)),
            Gated(SiLU()) if gated else GELU(),
            Dense(units, n, bias and not gated, last),
            *drop,
            name="feed-forward",
        ),
    )

    def block(name: str = "") -> AnyLayer:
        chain = Chain(*map(Residual, branches), name=name)
        return Remat(chain) if remat else chain

    blocks = (Repeat(block(), depth),) if repeat else tuple(block(f"block {i + 1}") for i in range(depth))
    positions = () if rotary else (LearnedPositions(length, n),)
    table, between = Embedding(vocabulary, n, Normal(STD)), (*positions, *drop, *blocks, norm(n))
    return Tied(table, Chain(*between)) if tied else Chain(table, *between, Dense(n, vocabulary, False, Normal(STD)))

"""`gpt` against JAX's gradients of its cost and of a transformer written out below, as a whole and by example."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import disagreement, params_of, random, tokens, value_and_grad

import funcnet as fn
from funcnet._core import walkers

VOCABULARY, T, M, LOSS = 7, 5, 3, fn.CrossEntropy()
LLAMA = {"norm": fn.RMSNorm, "rotary": True, "gated": True, "bias": False, "tied": False, "kv_heads": 1}
NETS = {
    "tied": {},
    "llama": LLAMA | {"hidden": 6},
    "repeat": {"repeat": True},
    "remat": {"remat": True, "rotary": True},
    "repeat and remat": {"repeat": True, "remat": True, "kv_heads": 1},
}


def gpt(depth=2, **options):
    return fn.gpt(VOCABULARY, T + 1, 4, 2, depth, **options)


def data(m=M, positions=T):
    drawn = np.asarray(tokens(1, VOCABULARY, m, positions + 1))
    return drawn[:, :-1], drawn[:, 1:]


def norm(params, h, options):
    if options.get("norm") is fn.RMSNorm:
        return h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-5) * jnp.broadcast_to(params["g"], h.shape)
    h = h - h.mean(-1, keepdims=True)
    h = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-5)
    return h * jnp.broadcast_to(params["g"], h.shape) + jnp.broadcast_to(params["b"], h.shape)


def dense(params, h):
    return h @ params["w"] + jnp.broadcast_to(params.get("b", 0.0), (*h.shape[:-1], params["w"].shape[1]))


def turned(x):
    """(m, T, heads, d): pairs of features as complex numbers."""
    d = x.shape[-1]
    angles = np.arange(x.shape[1])[:, None] / 10000 ** (np.arange(0, d, 2) / d)
    z = jax.lax.complex(x[..., : d // 2], x[..., d // 2 :]) * np.exp(1j * angles)[None, :, None]
    return jnp.concatenate([z.real, z.imag], -1)


def attention(x, options):
    keys = options.get("kv_heads", 2)
    q, k, v = (a.reshape(*a.shape[:2], -1, 2) for a in jnp.split(x, [4, 4 + 2 * keys], -1))
    if options.get("rotary"):
        q, k = turned(q), turned(k)
    k, v = (jnp.repeat(a, 2 // keys, 2) for a in (k, v))
    scores = jnp.einsum("mthd,mshd->mhts", q, k) / np.sqrt(2)
    scores = jnp.where(np.tri(x.shape[1], dtype=bool)[None, None], scores, -np.inf)
    return jnp.einsum("mhts,mshd->mthd", jax.nn.softmax(scores), v).reshape(*x.shape[:2], 4)


def plain(params, x, options):
    """Logits of the same parameters, without funcnet."""
    table, own = (params[0]["e"], params[1]) if options.get("tied", True) else (params[0]["e"], params[1:-1])
    h = table[x]
    if not options.get("rotary"):
        h, own = h + own[0]["e"][None, : x.shape[1]], own[1:]
    *blocks, last = own
    if options.get("repeat"):
        blocks = [jax.tree.map(lambda a, i=i: a[i], blocks[0]) for i in range(len(blocks[0][0][0]["g"]))]
    for first, second in blocks:
        n1, project, *_, back = [part for part in first if part]
        h = h + dense(back, attention(dense(project, norm(n1, h, options)), options))
        n2, up, down = [part for part in second if part]
        u = dense(up, norm(n2, h, options))
        half = u.shape[-1] // 2
        u = jax.nn.silu(u[..., :half]) * u[..., half:] if options.get("gated") else jax.nn.gelu(u)
        h = h + dense(down, u)
    h = norm(last, h, options)
    return h @ table.T if options.get("tied", True) else dense(params[-1], h)


def plain_cost(params, x, y, options):
    return -jnp.take_along_axis(jax.nn.log_softmax(plain(params, x, options)), y[..., None], -1).mean()


def in_columns(own, m=M):
    return jnp.concatenate([leaf.reshape(m, -1) for leaf in jax.tree.leaves(own)], 1)


@pytest.mark.fast
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_gradients_norms_and_products_are_those_of_jax(options):
    net, bound = gpt(**options), 1.0

    @jax.jit
    def run(params, x, y):
        bp = fn.backprop(net, LOSS, params, x, y)
        clipped, squares = fn.clipped_gradient(net, bp, bound)
        found = fn.example_gradients(net, bp), fn.example_square_norms(net, bp), squares, clipped
        whole = fn.value_and_grad(net, LOSS, params, x, y)

        def one(x, y):
            return jax.grad(lambda p: fn.cost(net, LOSS, p, x[None], y[None], reduction="sum"))(params)

        own = jax.vmap(one)(x, y)
        rows = in_columns(own)
        norms = (rows * rows).sum(1)
        share = jnp.minimum(1, bound / jnp.sqrt(norms))
        sums = jax.tree.map(lambda g: jnp.tensordot(share, g, 1), own)
        automatic = jax.value_and_grad(lambda p: fn.cost(net, LOSS, p, x, y))(params)
        written = jax.value_and_grad(plain_cost)(params, x, y, options)
        return whole, automatic, written, (*found, fn.example_gram(net, bp)), (own, norms, norms, sums, rows @ rows.T)

    whole, automatic, written, by_example, loop = run(params_of(net), *data())
    assert disagreement(whole, automatic) <= 1e-12
    assert disagreement(whole, written) <= 1e-12
    for found, expected in zip(by_example, loop, strict=True):
        assert disagreement(found, expected) <= 1e-10
    assert (np.asarray(loop[1]) > bound**2).any()  # there is something to clip


@pytest.mark.fast
def test_parameters_of_repeat_are_those_of_the_blocks_stacked():
    params = params_of(gpt())
    table, (positions, *blocks, last) = params
    stacked = table, (positions, jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks), last)
    x, y = data()
    costs = [
        jax.jit(lambda p, o=options: fn.cost(gpt(**o), LOSS, p, x, y))(own)
        for options, own in (({}, params), ({"repeat": True, "remat": True}, stacked))
    ]
    np.testing.assert_allclose(*costs, rtol=1e-13)
    started = jax.jit(lambda key: fn.init(gpt(repeat=True), key))(jax.random.key(0))
    assert jax.tree.map(np.shape, started) == jax.tree.map(np.shape, stacked)


def test_gpt_2_has_its_number_of_parameters():
    net = fn.gpt(50257, 1024, 768, 12, 12)
    shapes = jax.eval_shape(lambda key: fn.init(net, key), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 124_439_808


def test_llamas_shape_has_no_biases_and_no_table_of_positions():
    net = fn.gpt(VOCABULARY, T, 16, 4, 3, **LLAMA | {"kv_heads": 2})
    shapes = jax.eval_shape(lambda key: fn.init(net, key), jax.random.key(0))
    names = [path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    assert set(names) == {"e", "w", "g"}
    assert names.count("e") == 1
    assert shapes[-1]["w"].shape == (16, VOCABULARY)
    project, gate = shapes[1][0][1]["w"], shapes[1][1][1]["w"]
    assert project.shape == (16, 16 + 2 * 2 * 4)
    assert gate.shape == (16, 2 * 43)  # ⌈8 · 16/3⌉ units, and as many gates
    assert "Rotary(8, 6)" in repr(net)


def test_what_makes_no_transformer_is_refused():
    for kind, changes, words in (
        (ValueError, {"rotary": True, "n": 6}, "6 features are no pairs in each of 2 heads"),
        (ValueError, {"n": 5}, "heads must divide n"),
        (ValueError, {"depth": 0}, "gpt: depth"),
        (ValueError, {"length": 0}, "gpt: length"),
        (TypeError, {"norm": fn.RMSNorm(4)}, "expected a class such as RMSNorm"),
        (TypeError, {"repeat": 3}, "gpt: repeat"),
    ):
        with pytest.raises(kind, match=words):
            fn.gpt(**{"vocabulary": 5, "length": 4, "n": 4, "heads": 2, "depth": 1} | changes)


@pytest.mark.fast
@pytest.mark.parametrize("repeat", [False, True])
def test_weights_start_smaller_at_the_end_of_a_branch(repeat):
    depth, n = 3, 64
    net = fn.gpt(100, 50, n, 4, depth, repeat=repeat, dropout=0.1)
    table, (positions, _, *blocks, last) = jax.jit(lambda key: fn.init(net, key))(jax.random.key(0))
    block = blocks[0]
    attention, feed_forward = ([own for own in branch if own] for branch in block)
    for values in (table["e"], positions["e"], attention[1]["w"], feed_forward[1]["w"]):
        assert abs(np.std(values) / 0.02 - 1) <= 0.05
    for end in (attention[2], feed_forward[2]):
        assert abs(np.std(end["w"]) / (0.02 / np.sqrt(2 * depth)) - 1) <= 0.05
    for own in (*attention[1:], *feed_forward[1:]):
        assert not np.any(own["b"])
    assert (np.asarray(last["g"]) == 1).all()


@pytest.mark.fast
@pytest.mark.parametrize("options", [{"rotary": True, "remat": True}, {"causal": False, "repeat": True}], ids=repr)
def test_a_token_changes_no_logit_before_it(options):
    net, t = gpt(**options), 3
    params, (x, _) = params_of(net), data()
    other = x.copy()
    other[:, t] = (other[:, t] + 1) % VOCABULARY
    first, second = jax.jit(lambda x: fn.predict(net, params, x))(np.stack([x, other]).reshape(-1, T)).reshape(
        2, M, T, -1
    )
    changed = np.abs(first - second).max((0, 2)) > 1e-9
    assert changed[t:].all()
    assert changed[:t].all() == (not options.get("causal", True))
    assert changed[:t].any() == (not options.get("causal", True))


@pytest.mark.fast
def test_a_prompt_of_weight_0_is_context_and_has_no_cost():
    net = gpt()
    params, (x, y) = params_of(net), data()
    weights = np.ones((M, T))
    weights[:, :2] = 0
    run = lambda x, y: value_and_grad(net, LOSS, params, x, y, weights=weights)  # noqa: E731
    value, grads = run(x, y)
    log_p = jax.nn.log_softmax(jax.jit(lambda p: plain(p, x, {}))(params))
    costs = -np.take_along_axis(np.asarray(log_p), y[..., None], -1)[..., 0]
    np.testing.assert_allclose(value, costs[:, 2:].mean(), rtol=1e-12)
    other_y, other_x = y.copy(), x.copy()
    other_y[:, :2] = (y[:, :2] + 1) % VOCABULARY
    assert disagreement(run(x, other_y), (value, grads)) == 0
    other_x[:, 0] = (x[:, 0] + 1) % VOCABULARY
    assert disagreement(run(other_x, y), (value, grads)) > 1e-3


def flow_of(net, x):
    params = params_of(net)
    bp = jax.jit(fn.backprop)(net, fn.SquaredError(), params, x, jnp.zeros(fn.predict(net, params, x).shape))
    flow = fn.gradient_flow(net, bp, params)
    assert all(np.isfinite(sizes["delta"]) and sizes["weight"] > 0 for sizes in flow.values())
    return params, bp, flow


@pytest.mark.fast
def test_queries_keys_and_values_are_apart_in_the_flow_of_errors():
    net = fn.Chain(
        fn.Chain(fn.Dense(4, 8), fn.Rotary(4, 3), fn.Attention(4, 2, 1), fn.Tanh(), name="mixed"), fn.Dense(4, 1)
    )
    params, bp, flow = flow_of(net, random(1, 3, 5, 4))
    assert list(flow) == [f"layer 1, mixed, {part}" for part in ("queries", "keys", "values")] + ["layer 2, Dense"]
    weights, deltas = params[0][0]["w"], np.asarray(bp.deltas[0][0])
    for part, columns in (("queries", slice(4)), ("keys", slice(4, 6)), ("values", slice(6, 8))):
        sizes = flow[f"layer 1, mixed, {part}"]
        assert np.isclose(sizes["delta"], np.sqrt(np.square(deltas[..., columns]).mean()))
        both = np.append(np.ravel(weights[:, columns]), np.ravel(params[0][0]["b"][columns]))
        assert np.isclose(sizes["weight"], np.sqrt(np.square(both).mean()))
        assert np.isnan(sizes["saturated"])  # the activation is not behind the projection


@pytest.mark.fast
def test_projections_of_their_own_are_not_taken_apart():
    net = fn.Chain(fn.Parallel(*[fn.Dense(4, 4)] * 3), fn.Attention(4, 2))
    assert list(flow_of(net, random(1, 3, 5, 4))[2]) == ["layer 1", "layer 2", "layer 3"]


def test_names_are_those_of_the_blocks_in_a_loop_or_not():
    names = [[name for name, _ in walkers.leaves(gpt(repeat=repeat))] for repeat in (False, True)]
    assert names[0] == names[1]
    assert names[0][:3] == ["Embedding", "LearnedPositions", "block 1, attention, LayerNorm"]


@pytest.mark.fast
def test_a_diagnosis_of_a_stack_names_each_of_its_layers():
    net = gpt(repeat=True)
    x, _ = data(8)
    found = fn.diagnose(net, LOSS, params_of(net), x, x, optimizer=optax.adam(3.0))
    names = {
        f"layer {i}, {name}" for i, name in enumerate((n for n, _, p in walkers.leaves(net, params_of(net)) if p), 1)
    }
    named = [
        place for verdict in found.verdicts for place in re.findall(r"layer \d+, [^;]*?(?=, layer|$)", verdict.where)
    ]
    assert named
    assert set(named) <= names

"""Epochs: every example once, the same as a loop written out, and nothing of the caller's changed."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.utils.class_weight import compute_class_weight
from table import disagreement, params_of, random

import funcnet as fn
from funcnet.train.options import Options
from funcnet.train.order import order_of, permutation

NET = fn.Chain(fn.Dense(3, 4), fn.Tanh(), fn.Dropout(0.3), fn.Dense(4, 2))
PLAIN = fn.mlp((3, 4, 2))
LOSS, ADAM, STILL = fn.SquaredError(), optax.adam(1e-2), optax.sgd(0.0)
X, Y = random(1, 10, 3), random(2, 10, 2)


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):  # optax's steps are integers
        yield


def start(net=PLAIN, optimizer=ADAM, seed=0):
    return fn.train_state(optimizer, params_of(net), jax.random.key(seed))


def epoch(state, net=PLAIN, optimizer=ADAM, data=(X, Y), batch_size=4, **options):
    return fn.train_epoch(net, LOSS, optimizer, state, data, batch_size=batch_size, **options)


@jax.jit
def written_out(params, opt_state, x, y, weights, penalty):
    """One update; weights of 1 are none."""
    J, grads = fn.value_and_grad(PLAIN, LOSS, params, x, y, weights=weights, penalty=penalty)
    updates, opt_state = ADAM.update(grads, opt_state, params)
    return J, optax.apply_updates(params, updates), opt_state


@pytest.mark.fast
@pytest.mark.parametrize(
    ("weights", "penalty"),
    [(None, None), (9.0 - np.arange(10.0), fn.L2(0.1))],
    ids=["plain", "weighted and penalised"],
)
def test_an_epoch_is_the_loop_written_out_with_a_smaller_last_batch(weights, penalty):
    state = start()
    trained, metrics = epoch(state, weights=weights, penalty=penalty)

    order = jax.jit(order_of, static_argnums=(1, 2))(state.key, 10, Options(PLAIN, LOSS, ADAM, 4))
    rows = np.asarray(order.rows)[np.asarray(order.counted)]
    assert sorted(rows) == list(range(10))
    params, opt_state, total, mass = state.params, state.opt_state, 0.0, 0.0
    for chosen in (rows[:4], rows[4:8], rows[8:]):
        w = np.ones(len(chosen)) if weights is None else weights[chosen]
        batch = np.asarray(X)[chosen], np.asarray(Y)[chosen], w
        J, params, opt_state = written_out(params, opt_state, *batch, penalty or fn.L2(0.0))
        total, mass = total + float(J) * w.sum(), mass + w.sum()
    assert disagreement(trained.params, params) <= 1e-12
    assert disagreement(trained.opt_state, opt_state) <= 1e-12
    assert np.isclose(metrics["cost"], total / mass, rtol=1e-13)
    assert int(trained.step) == 3


@pytest.mark.fast
def test_every_example_counts_once_in_the_cost():
    expected = jax.jit(fn.cost)(PLAIN, LOSS, params_of(PLAIN), X, Y)
    for batch_size in (1, 3, 10):
        _, metrics = epoch(start(optimizer=STILL), optimizer=STILL, batch_size=batch_size)
        assert np.isclose(metrics["cost"], expected, rtol=1e-14)


@pytest.mark.fast
def test_the_same_state_gives_the_same_bits_and_another_key_another_order():
    first, again, other = epoch(start())[0], epoch(start())[0], epoch(start(seed=1))[0]
    assert disagreement(first.params, again.params) == 0
    assert disagreement(first.params, other.params) > 1e-6
    second, _ = epoch(first)
    assert not (jax.random.key_data(first.key) == jax.random.key_data(second.key)).all()


@pytest.mark.fast
def test_parts_of_a_batch_make_the_update_of_the_whole_dropout_included():
    weights = 9.0 - np.arange(10.0)
    whole, cost = epoch(start(NET), NET, weights=weights, penalty=fn.L2(0.1))
    parts, same = epoch(start(NET), NET, weights=weights, penalty=fn.L2(0.1), accumulate=2)
    assert disagreement(parts.params, whole.params) <= 1e-12
    assert disagreement(same, cost) <= 1e-12


@pytest.mark.fast
def test_an_example_draws_the_same_in_a_batch_of_any_size():
    costs = [epoch(start(NET, STILL), NET, STILL, batch_size=size)[1]["cost"] for size in (3, 10)]
    assert np.allclose(costs, costs[0], rtol=1e-14)


@pytest.mark.fast
def test_every_epoch_draws_anew_and_dropout_is_at_work():
    state, first = epoch(start(NET, STILL), NET, STILL, batch_size=10)
    _, second = epoch(state, NET, STILL, batch_size=10)
    assert not np.isclose(first["cost"], second["cost"], rtol=1e-6)
    without = jax.jit(fn.cost)(NET, LOSS, params_of(NET), X, Y)
    assert not np.isclose(first["cost"], without, rtol=1e-6)


@pytest.mark.fast
def test_what_is_not_trainable_stays():
    optimizer = optax.adamw(1e-2, weight_decay=0.1)
    state = start(optimizer=optimizer)
    for trainable in ((False, True, True), ({"w": True, "b": False}, True, {"w": True, "b": False})):
        trained, _ = epoch(state, optimizer=optimizer, trainable=trainable)
        moved = jax.tree.map(lambda a, b: bool((np.asarray(a) != np.asarray(b)).any()), trained.params, state.params)
        expected = jax.tree.map(lambda keep, branch: jax.tree.map(lambda _: keep, branch), trainable, moved)
        assert moved == expected


def test_epochs_under_jit_and_vmap():
    jitted = jax.jit(fn.train_epoch, static_argnames=("optimizer", "batch_size"))
    found, _ = jitted(PLAIN, LOSS, ADAM, start(), (X, Y), batch_size=4)
    assert disagreement(found.params, epoch(start())[0].params) <= 1e-14
    keys = jnp.stack([jax.random.key(seed) for seed in range(3)])
    one = start(seed=1)
    lanes, strengths = one._replace(key=keys), fn.L2(np.array([0.0, 0.1, 1.0]))
    weights = 9.0 - np.arange(10.0)  # as above, where the program of one epoch is compiled
    axes = fn.TrainState(params=None, opt_state=None, step=None, key=0), 0
    side_by_side = jax.vmap(lambda state, penalty: epoch(state, weights=weights, penalty=penalty), axes)
    together, costs = side_by_side(lanes, strengths)
    one, _ = epoch(one, weights=weights, penalty=fn.L2(0.1))
    assert disagreement(jax.tree.map(lambda leaf: np.asarray(leaf)[1], together.params), one.params) <= 1e-12
    assert costs["cost"].shape == (3,)


def test_lbfgs_runs_on_the_full_batch_with_its_line_search():
    optimizer = optax.lbfgs(memory_size=3)
    state = start(optimizer=optimizer)
    costs = []
    for _ in range(30):
        state, metrics = epoch(state, optimizer=optimizer, batch_size=10)
        costs.append(float(metrics["cost"]))
    assert costs[-1] < 0.3 * costs[0]
    assert all(b <= a for a, b in pairwise(costs))


def test_the_program_is_compiled_once():
    traces = []

    def update(grads, state, params=None):
        traces.append(1)
        return jax.tree.map(lambda g: -0.1 * g, grads), state

    optimizer = optax.GradientTransformation(lambda params: (), update)
    state = start(optimizer=optimizer)
    for _ in range(3):
        state, _ = epoch(state, optimizer=optimizer)
        net = fn.mlp((3, 4, 2))
        state, _ = epoch(state, net, optimizer)
    assert len(traces) == 1


def test_bfloat16_parameters_keep_their_type():
    params, x, y = cast(jnp.bfloat16, params_of(PLAIN), X, Y)
    state = fn.train_state(STILL, params, jax.random.key(0))
    for accumulate in (1, 2):
        call = partial(epoch, optimizer=STILL, data=(x, y), accumulate=accumulate)
        trained, metrics = jax.eval_shape(call, state)
        assert {leaf.dtype for leaf in jax.tree.leaves(trained.params)} == {jnp.dtype(jnp.bfloat16)}
        assert metrics["cost"].dtype == jnp.float32


def cast(dtype, *trees):
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).astype(dtype)), trees)


EVERY_ROUNDING = {"xla_allow_excess_precision": False}  # otherwise some in between are left out


@partial(jax.jit, compiler_options=EVERY_ROUNDING)
def by_hand_in_bfloat16(params, x, y):
    """The gradient with every rounding written out, its cost, and the gradient without roundings."""

    def dot(a, b):
        return jax.lax.dot(a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32)

    def narrow(a):
        return a.astype(jnp.bfloat16).astype(jnp.float32)

    first, last = params[0], params[2]
    a = narrow(jnp.tanh(narrow(narrow(dot(x, first["w"])) + narrow(first["b"])[None])))
    output = narrow(narrow(dot(a, last["w"])) + narrow(last["b"])[None])
    delta = narrow(output - y)
    below = narrow(narrow(dot(delta, last["w"].T)) * narrow(1 - narrow(a * a)))
    grads = (
        {"w": dot(x.T, below) / 8, "b": below.sum(0) / 8},
        (),
        {"w": dot(a.T, delta) / 8, "b": delta.sum(0) / 8},
    )
    _, exact = fn.value_and_grad(PLAIN, LOSS, params, x, y)
    return grads, 0.5 * ((output - y) ** 2).sum() / 8, exact


@pytest.mark.fast
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_compute_type_is_a_network_cast_by_hand(accumulate):
    """Forward and backward in bfloat16; parameters, gradients and the optimiser's state as they were, in float32."""
    params, x, y = cast(jnp.float32, params_of(PLAIN), X[:8], Y[:8])  # 8, so that dividing rounds nothing
    step = optax.sgd(1.0, momentum=0.9)  # whose trace holds the gradient
    state = fn.train_state(step, params, jax.random.key(0))
    options = {"optimizer": step, "data": (x, y), "batch_size": 8, "accumulate": accumulate}
    rounded = jax.jit(lambda state: epoch(state, compute_dtype="bfloat16", **options), compiler_options=EVERY_ROUNDING)
    found, metrics = rounded(state)
    compiled, _ = epoch(state, compute_dtype=jnp.bfloat16, **options)
    for leaf in jax.tree.leaves((compiled.params, compiled.opt_state)):
        assert leaf.dtype == jnp.float32
    assert metrics["cost"].dtype == jnp.float32

    expected, cost, exact = by_hand_in_bfloat16(params, x, y)
    grads = found.opt_state[0].trace
    assert disagreement(grads, expected) <= 1e-6
    assert np.isclose(metrics["cost"], cost, rtol=1e-6)
    assert disagreement(compiled.opt_state[0].trace, expected) <= 2e-2
    assert 1e-3 < disagreement(grads, exact) < 3e-2


def test_a_training_in_bfloat16_learns_as_in_float32():
    params, x, y = cast(jnp.float32, params_of(PLAIN), X, Y)
    state = fn.train_state(ADAM, params, jax.random.key(0))
    costs = []
    for dtype in (None, "bfloat16"):
        _, history = fn.fit(PLAIN, LOSS, ADAM, state, (x, y), epochs=40, batch_size=4, compute_dtype=dtype)
        costs.append(history["cost"])
    assert costs[0][-1] < 0.7 * costs[0][0]
    assert np.allclose(*costs, rtol=0.03)
    assert not np.array_equal(*costs)


@pytest.mark.fast
@pytest.mark.parametrize("positions", [(), (3,)], ids=str)
def test_class_weights_are_those_of_scikit_learn(positions):
    y = np.random.default_rng(0).choice(4, size=(60, *positions), p=[0.6, 0.2, 0.15, 0.05])
    each = compute_class_weight("balanced", classes=np.arange(4), y=y.ravel())
    found = fn.class_weights(jnp.asarray(y))
    assert np.allclose(found, each[y], rtol=1e-14)
    assert np.isclose(found.sum(), y.size, rtol=1e-13)
    chosen = jnp.array([1.0, 2.0, 0.0, 5.0])
    assert np.array_equal(fn.class_weights(y, chosen), np.asarray(chosen)[y])


@pytest.mark.fast
@pytest.mark.parametrize(
    ("y", "wanted", "weights"),
    [
        ([0, 0, 2], None, [0.75, 0.75, 1.5]),  # a split without class 1: the others keep their numbers
        ([0, 2], {0: 1.0, 1: 7.0, 2: 5.0}, [1.0, 5.0]),
        ([0, 2], [1.0, 7.0, 5.0], [1.0, 5.0]),
        ([0, 1, 1], {1: 5}, [1.0, 5.0, 5.0]),
        ([True, False, True], None, [0.75, 1.5, 0.75]),
        ([[True], [False], [True]], {True: 3.0, False: 1.0}, [3.0, 1.0, 3.0]),
        ([[1.0], [0.0], [1.0]], None, [0.75, 1.5, 0.75]),
        ([[2], [0], [2]], None, [0.75, 1.5, 0.75]),
        ([[0, 1], [1, 1]], [1.0, 2.0], [[1.0, 2.0], [2.0, 2.0]]),
    ],
)
def test_class_weights_of_every_kind_of_target(y, wanted, weights):
    assert np.array_equal(fn.class_weights(np.array(y), wanted), weights)


def test_class_weights_of_one_output_fit_its_costs():
    y = jnp.array([[1.0], [0.0], [0.0]])
    net = fn.mlp((3, 4, 1))
    cost = fn.cost(net, fn.BinaryCrossEntropy(), params_of(net), X[:3], y, weights=fn.class_weights(y))
    each = fn.backprop(net, fn.BinaryCrossEntropy(), params_of(net), X[:3], y).costs
    assert np.isclose(cost, (each * jnp.array([1.5, 0.75, 0.75])).sum() / 3, rtol=1e-13)


def test_class_weights_train_as_if_the_rare_were_there_more_often():
    y = jnp.array([0, 0, 0, 1])
    repeated = [0, 1, 2, 3, 3, 3]
    net, loss = fn.mlp((3, 4, 2)), fn.CrossEntropy()
    gradient, x = jax.jit(fn.value_and_grad), np.asarray(X)
    for_one = gradient(net, loss, params_of(net), x[:4], y, weights=fn.class_weights(y))
    for_all = gradient(net, loss, params_of(net), x[repeated], np.asarray(y)[repeated])
    assert disagreement(for_one, for_all) <= 1e-12


@pytest.mark.parametrize(
    ("call", "kind", "fragments"),
    [
        (lambda: epoch(start(), batch_size=0), ValueError, ["batch_size", "1 to 10", "0"]),
        (lambda: epoch(start(), batch_size=-1), ValueError, ["batch_size", "-1"]),
        (lambda: epoch(start(), batch_size=11), ValueError, ["1 to 10", "got 11"]),
        (
            lambda: epoch(start(), compute_dtype="float16"),
            ValueError,
            ["compute_dtype", "'bfloat16' or None", "float16"],
        ),
        (lambda: epoch(start(), compute_dtype=jnp.float32), ValueError, ["compute_dtype", "float32", "cast both"]),
        (lambda: epoch(start(), compute_dtype="int8"), ValueError, ["compute_dtype", "int8"]),
        (lambda: epoch(start(), compute_dtype="half a float"), ValueError, ["compute_dtype", "'half a float'"]),
        (lambda: epoch(start(), compute_dtype=16), ValueError, ["compute_dtype", "16"]),
        (lambda: fn.class_weights(jnp.array([0.0, 1.0])), TypeError, ["integer classes", "float64"]),
        (lambda: fn.class_weights(["b", "a"]), TypeError, ["y: expected numbers", "return_inverse=True"]),
        (lambda: fn.class_weights([[0], [0, 1]]), ValueError, ["y: expected rows of equal length"]),
        (lambda: fn.class_weights(np.eye(3)), TypeError, ["float64", "argmax(-1)"]),
        (lambda: fn.class_weights(np.eye(3, dtype=int)), ValueError, ["(3, 3)", "one-hot", "argmax(-1)", "ravel"]),
        (lambda: fn.class_weights(np.eye(3, dtype=bool)), ValueError, ["(3, 3)", "one-hot"]),
        (lambda: jax.jit(fn.class_weights)(jnp.array([0, 1])), TypeError, ["y: is traced", "outside of jit"]),
        (lambda: fn.class_weights([0, 1], [1.0, -1.0]), ValueError, ["wanted", "0 or more", "-1.0"]),
        (lambda: fn.class_weights([0, 1], {0: 1.0, 1: np.nan}), ValueError, ["wanted", "finite", "nan"]),
        (lambda: fn.class_weights([0, 1], {0: 1.0, 2: 3.0}), ValueError, ["names 2", "not class 1"]),
        (lambda: fn.class_weights([0, 1], {0: "heavy"}), TypeError, ["wanted: expected numbers", "heavy"]),
        (lambda: fn.class_weights([0, 1], 2.0), TypeError, ["wanted", "dict", "2.0"]),
        (lambda: fn.class_weights([0, 1], [[1.0], [1.0, 2.0]]), ValueError, ["wanted: expected rows of equal length"]),
        (lambda: fn.class_weights(jax.random.key(0)), TypeError, ["y: expected numbers, got a random key"]),
        (lambda: fn.class_weights(jnp.array([0, -1])), ValueError, ["0 … C-1", "-1"]),
        (lambda: fn.class_weights(jnp.array([], int)), ValueError, ["0 … C-1", "none"]),
        (lambda: fn.class_weights(jnp.array([0, 3]), jnp.ones(3)), ValueError, ["(3,)", "0 … 3"]),
        (lambda: epoch(start(), batch_size=2.0), ValueError, ["batch_size", "2.0"]),
        (lambda: epoch(start(), accumulate=3), ValueError, ["accumulate", "divisor of batch_size=4", "3"]),
        (lambda: epoch(start(), optimizer=0.1), TypeError, ["optimizer", "optax.adam(1e-3)", "0.1"]),
        (lambda: epoch(start(), data=(X, Y[:5])), ValueError, ["x has 10 examples", "(5, 2)"]),
        (lambda: epoch(start(), weights=jnp.ones(3)), ValueError, ["weights", "(10,)", "(3,)"]),
        (lambda: epoch(start(), penalty=0.1), TypeError, ["penalty", "L2(1e-4)"]),
        (lambda: epoch(start(fn.mlp((3, 5, 2)))), ValueError, ["layer 1, b", "(5,)", "(4,)"]),
        (lambda: fn.train_state(ADAM, params_of(PLAIN), 0), TypeError, ["jax.random.key(seed)", "0"]),
        (lambda: fn.train_state("adam", params_of(PLAIN), jax.random.key(0)), TypeError, ["optimizer", "'adam'"]),
    ],
)
def test_bad_input(call, kind, fragments):
    with pytest.raises(kind) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value)


permutations = jax.jit(jax.vmap(permutation, in_axes=(0, None)), static_argnums=1)


@pytest.mark.parametrize("m", [1, 2, 7, 70_000])
def test_an_order_holds_every_row_once(m):
    order = permutations(jax.random.key(m)[None], m)[0]
    assert np.array_equal(np.sort(order), np.arange(m))


def test_all_orders_are_equally_frequent_and_every_row_comes_everywhere():
    keys = jax.random.split(jax.random.key(0), 12_000)
    counts = np.unique(np.asarray(permutations(keys, 4)) @ [1000, 100, 10, 1], return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 500) ** 2 / 500).sum() < 49.7  # chi-square, 23 degrees of freedom: beyond it 1 in 1000
    places = np.asarray(permutations(keys[:200], 5000)).mean(0)
    assert np.abs(places - 2499.5).max() < 5 * 5000 / np.sqrt(12 * 200)

"""The checks: they find planted errors of 3 % in one entry, know kinks, and pass what is right."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import KEY, Scale, params_of, random

import funcnet as fn
from funcnet._core.numerics import wide
from funcnet.check.answers import answer_of

X, Y = random(1, 4, 3), random(2, 4, 2)


class WideScale(Scale):
    """`Scale`, whose gradient is float32 at least."""

    def gradient(self, tape, deltas):
        return Scale.gradient(self, wide(tape), wide(deltas))


def broken(**wrong):
    """A `Scale` with one of its functions replaced."""
    cls = type(
        "Broken", (), {name: getattr(WideScale, name) for name in ("init", "forward", "backward", "gradient")} | wrong
    )
    cls.__annotations__ = {"n": int}
    return fn.spec(cls)(3)


def one_entry_off(self, tape, deltas):
    grads = Scale.gradient(self, tape, deltas)
    return {"s": grads["s"].at[1].multiply(1.03)}


@pytest.mark.fast
def test_three_percent_in_one_entry_of_a_layer_is_found_and_named():
    report = fn.check_layer(broken(gradient=one_entry_off), {"s": jnp.ones(3)}, X)
    assert not report.ok
    assert report.rows[0].where == "layer 1, s[1]"
    assert report.rows[0].verdict == "wrong"
    assert 0.02 < report.rows[0].error < 0.04
    assert "NOT right: layer 1, s[1]" in str(report)
    with pytest.raises(AssertionError, match=r"layer 1, s\[1\]"):
        report.raise_if_wrong()


@pytest.mark.fast
def test_an_error_in_a_network_is_found_in_every_entry_of_a_large_leaf():
    @fn.spec
    class LastEntryOff:
        def init(self, key):
            return {"w": jnp.zeros((60, 50))}

        def forward(self, params, x, key=None):
            return x @ params["w"], x

        def backward(self, params, tape, delta):
            return delta @ params["w"].T, delta

        def gradient(self, tape, deltas):
            return {"w": (tape.T @ deltas).at[41, 17].multiply(1.03)}

    net, loss = fn.Chain(LastEntryOff(), fn.Tanh(), fn.Dense(50, 2)), fn.SquaredError()
    params, x = params_of(net), random(0, 4, 60)
    report = fn.check_gradients(net, loss, params, x, Y, entries=20)
    assert [row.where for row in report.rows if row.verdict != "right"] == ["layer 1, w[41, 17]"]
    assert report.rows[0].checked in (19, 20)
    assert report.rows[0].size == 3000
    assert np.isfinite(report.rows[0].numeric)


def test_a_wrong_custom_rule_is_found_by_differences_alone():
    @jax.custom_vjp
    def f(params, x):
        return jnp.tanh(x @ params)

    def forward(params, x):
        return f(params, x), (params, x)

    def backward(kept, delta):
        params, x = kept
        delta = delta * (1 - f(params, x) ** 2)
        return (x.T @ delta).at[2, 1].multiply(1.03), delta @ params.T

    f.defvjp(forward, backward)
    report = fn.check_function(f, random(0, 3, 2), X)
    assert [row.where for row in report.rows if row.verdict != "right"] == ["params[2, 1]"]
    assert report.rows[0].automatic is None
    assert report.rows[1].verdict == "right"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        ({"backward": lambda self, p, t, d: (d * d, d)}, "linear in delta"),
        ({"forward": lambda self, p, x, key=None: (p["s"] * (x - x.mean(0)), x)}, "does not depend on its batch"),
        ({"forward": lambda self, p, x, key=None: (Scale.forward(self, p, x)[0], x.T)}, "examples first"),
        ({"gradient": lambda self, t, d: {"s": (t * d).mean(0)}}, "sum of those of its examples"),
    ],
    ids=["not linear", "mixes examples", "examples last", "mean instead of sum"],
)  # fmt: skip
def test_broken_laws_are_named(wrong, law):
    wrong = dict(wrong)
    if "examples first" in law:
        wrong["gradient"] = lambda self, t, d: {"s": (t.T * d).sum(0)}
        wrong["backward"] = lambda self, p, t, d: (d * p["s"][None], d)
    with jax.numpy_rank_promotion("allow"):
        report = fn.check_layer(broken(**wrong), {"s": jnp.ones(3)}, X)
    assert not report.ok
    assert any(law in found.name for found in report.laws if not found.held), str(report)
    assert law in str(report)


def test_a_layer_with_state_is_found():
    calls = []

    def forward(self, params, x, key=None):
        calls.append(1)
        return Scale.forward(self, params, x)[0] + len(calls), x

    report = fn.check_layer(broken(forward=forward), {"s": jnp.ones(3)}, X)
    assert any("no state" in law.name for law in report.laws if not law.held)


def test_a_layer_that_widens_float32_is_found():
    def forward(self, params, x, key=None):
        return Scale.forward(self, params, x)[0].astype(jnp.float64), x

    report = fn.check_layer(broken(forward=forward), {"s": jnp.ones(3)}, X)
    assert [law.name for law in report.laws if not law.held] == ["float32 stays float32"]


@pytest.mark.fast
def test_kinks_are_counted_and_are_not_errors():
    net = fn.mlp((3, 4, 2), fn.ReLU())
    params = jax.tree.map(jnp.zeros_like, params_of(net))
    report = fn.check_gradients(net, fn.SquaredError(), params, X, Y, penalty=fn.L1(0.1))
    assert report.ok, str(report)
    assert sum(row.kinks for row in report.rows) > 0
    assert "at a kink" in str(report)


def test_a_kink_within_the_step_is_not_an_error():
    net = fn.Chain(fn.Dense(1, 1), fn.ReLU())
    params = fn.from_weights(net, [[[1.0]]])
    report = fn.check_gradients(net, fn.SquaredError(), params, jnp.array([[3e-6]]), jnp.array([[1.0]]))
    assert report.ok, str(report)


def test_an_error_beyond_the_slopes_at_a_kink_is_still_found():
    @fn.spec
    class WrongReLU:
        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            return jnp.maximum(x, 0), x

        def backward(self, params, tape, delta):
            return jnp.where(tape > 0, delta, -0.5 * delta), delta

        def gradient(self, tape, deltas):
            return ()

    assert not fn.check_layer(WrongReLU(), (), jnp.array([[0.0, 1.0], [0.0, -1.0]])).ok


def test_tiny_gradients_of_a_right_network_are_right():
    net = fn.Chain(*[layer for _ in range(6) for layer in (fn.Dense(3, 3), fn.Sigmoid())], fn.Dense(3, 2))
    report = fn.check_gradients(net, fn.SquaredError(), params_of(net), X, 10 * Y)
    assert report.ok, str(report)


@pytest.mark.parametrize("activation", [fn.ReLU(), fn.SiLU()], ids=repr)
def test_a_trained_network_whose_gradient_is_almost_nothing_is_right(activation):
    net, loss = fn.mlp((1, 16, 1), activation), fn.SquaredError()
    x = jnp.linspace(-1, 1, 20)[:, None]
    y = jnp.sin(3 * x)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def trained(params):
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(fn.value_and_grad(net, loss, params, x, y)[1], state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimizer.init(params)), length=8000)[0][0]

    with jax.numpy_dtype_promotion("standard"):  # as optax's Adam wants it
        params = trained(params_of(net))
    report = fn.check_gradients(net, loss, params, x, y)
    assert report.ok, str(report)


def test_a_derivative_that_is_not_finite_is_wrong_and_no_warning():
    @fn.spec
    class Root:
        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            return jnp.sqrt(x), x

        def backward(self, params, tape, delta):
            return delta / (2 * jnp.sqrt(tape)), delta

        def gradient(self, tape, deltas):
            return ()

    report = fn.check_layer(Root(), (), jnp.array([[1.0, 0.0], [2.0, 4.0]]))
    assert not report.ok
    assert report.rows[-1].where == "input[0, 1]"
    assert report.rows[-1].verdict == "wrong"


def test_what_differences_cannot_resolve_is_said():
    report = fn.check_function(lambda params, x: 1e9 + params * 1e-9 + 0 * x, jnp.ones(1), jnp.ones((1, 1))[0])
    assert report.rows[0].verdict == "unresolved"
    assert not report.ok


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_checks_run_in_float64_whatever_came(dtype):
    net = fn.mlp((3, 4, 2))
    params, x, y = jax.tree.map(lambda leaf: leaf.astype(dtype), (params_of(net), X, Y))
    report = fn.check_gradients(net, fn.SquaredError(), params, x, y, weights=jnp.array([1.0, 0, 2, 1]))
    assert report.ok, str(report)
    assert max(row.error for row in report.rows) < 1e-7


def test_options_reach_the_cost():
    net = fn.Chain(fn.Dense(3, 4), fn.Dropout(0.5), fn.Dense(4, 2))
    for reduction in ("mean", "sum"):
        options = {"key": KEY, "penalty": fn.ElasticNet(0.1, 0.1), "weights": jnp.arange(4.0)}
        report = fn.check_gradients(net, fn.SquaredError(), params_of(net), X, Y, reduction=reduction, **options)
        assert report.ok, str(report)


@pytest.mark.fast
@pytest.mark.parametrize("weights", [None, np.array([2.0, 0.5]), np.array([[1.0, 0, 2], [0, 0, 0]])], ids=np.shape)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_mean_over_positions_is_right_in_the_input_too(weights, reduction):
    net, x, y = fn.Chain(fn.Dense(2, 6), fn.Attention(2, 1)), random(1, 2, 3, 2), random(2, 2, 3, 2)
    options = {"weights": weights, "reduction": reduction}
    report = fn.check_gradients(net, fn.SquaredError(), params_of(net), x, y, **options)
    assert report.ok, str(report)
    assert report.rows[-1].where.startswith("input[")
    assert report.rows[-1].automatic != 0


def test_the_table_names_rows_and_counts_entries():
    net = fn.mlp((3, 4, 2))
    text = str(fn.check_gradients(net, fn.CrossEntropy(), params_of(net), X, np.array([0, 1, 0, 1]), entries=5))
    for part in ("CrossEntropy()", "layer 2, b[", "input[", " of 12", "all right", "hand-written", "differences"):
        assert part in text


@pytest.mark.fast
def test_a_lost_function_is_named():
    cls = type("Half", (), {"init": Scale.init, "forward": Scale.forward, "__annotations__": {"n": int}})
    with pytest.raises(TypeError, match="lacks backward, gradient"):
        fn.check_layer(fn.spec(cls)(3), {"s": jnp.ones(3)}, X)


def test_gradients_of_the_wrong_shape_are_named():
    wrong = broken(gradient=lambda self, t, d: {"s": t * d})
    with pytest.raises(ValueError, match="expected the shapes of params"):
        fn.check_layer(wrong, {"s": jnp.ones(3)}, X)


@pytest.mark.parametrize("scale", [1e-6, 1e-5])
def test_three_percent_is_found_where_curvature_is_strong(scale):
    class OneOff:
        n: int

        def init(self, key):
            return ()

        def gradient(self, tape, deltas):
            return ()

        def forward(self, params, x, key=None):
            return self._norm(x)

        def backward(self, params, tape, delta):
            norm = fn.LayerNorm(self.n, epsilon=1e-12)
            input_delta, _ = norm.backward({"g": jnp.ones(self.n, delta.dtype)}, tape, delta)
            return input_delta.at[1, 2].multiply(1.03), delta

        def _norm(self, x):
            norm = fn.LayerNorm(self.n, epsilon=1e-12)
            return norm.forward({"g": jnp.ones(self.n, x.dtype), "b": jnp.zeros(self.n, x.dtype)}, x)

    layer = fn.spec(OneOff)(4)
    for seed in range(2):
        report = fn.check_layer(layer, (), scale * random(seed, 3, 4), seed=seed)
        assert report.rows[-1].verdict != "right", str(report)


def test_three_percent_is_found_where_the_output_is_large():
    @jax.custom_vjp
    def f(params, x):
        return 1e6 + jnp.tanh(x @ params)

    def forward(params, x):
        return f(params, x), (params, x)

    def backward(kept, delta):
        params, x = kept
        delta = delta * (1 - jnp.tanh(x @ params) ** 2)
        return (x.T @ delta).at[2, 1].multiply(1.03), delta @ params.T

    f.defvjp(forward, backward)
    for seed in range(2):
        report = fn.check_function(f, random(seed, 3, 2), X, seed=seed)
        assert report.rows[0].verdict != "right", str(report)


def test_what_cannot_be_checked_is_refused_by_name():
    net, loss = fn.mlp((3, 2)), fn.SquaredError()
    params = params_of(net)
    for call, message in [
        (lambda: fn.check_function(lambda p, x: p * x, jnp.ones(()), np.full((3, 2), np.nan)), r"x\[0, 0\] is nan"),
        (lambda: fn.check_function(lambda p, x: p * x / 0, jnp.ones(()), np.ones((3, 2))), "The cost is"),
        (lambda: fn.check_gradients(net, loss, params, X, Y, entries=0), "entries: expected 1 or more"),
        (lambda: fn.check_gradients(net, loss, params, X[:0], Y[:0]), "one example or more"),
        (lambda: jax.jit(lambda p: fn.check_gradients(net, loss, p, X, Y).ok)(params), "not supported inside jit"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert fn.check_gradients(net, loss, params, X, Y, weights=[1.0, 2, 0, 1]).ok


# ---- somebody's own answer

NETWORK, SQUARED = fn.mlp((3, 4, 4, 2)), fn.SquaredError()


def numpy_gradient(params, x, y):
    """Backpropagation through NETWORK as a student writes it, in the type of what comes."""
    layers = [layer for layer in params if layer]
    a = [x]
    for layer in layers[:-1]:
        a.append(np.tanh(a[-1] @ layer["w"] + layer["b"]))
    delta = a[-1] @ layers[-1]["w"] + layers[-1]["b"] - y
    answer = []
    for layer, came_in in zip(layers[::-1], a[::-1]):
        answer.insert(0, {"w": came_in.T @ delta / np.float32(len(x)), "b": delta.mean(0)})
        delta = (delta @ layer["w"].T) * (1 - came_in**2)
    return answer


def answered(dtype=np.float32, m=4):
    """Parameters and a batch of a type, and the right answer in it."""
    given = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), (params_of(NETWORK), random(1, m, 3), random(2, m, 2)))
    return given, numpy_gradient(*given)


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_right_answer_is_right_in_its_own_precision(dtype):
    given, answer = answered(dtype)
    report = fn.check_gradients(NETWORK, SQUARED, *given, grads=answer)
    assert report.ok, str(report)
    assert [row.name for row in report.rows] == [f"layer {n}, {name}" for n in (1, 2, 3) for name in "bw"]
    assert report.title.startswith(f"An answer in {np.dtype(dtype)}")
    assert "answer" in str(report).splitlines()[1]
    assert "hand-written" not in str(report)


@pytest.mark.fast
@pytest.mark.parametrize("small", [False, True])
def test_three_percent_in_one_entry_of_an_answer_is_wrong_and_named(small):
    (params, x, y), _ = answered()
    if small:  # of a gradient ten thousand times smaller than the others of its matrix
        params[2]["w"][:, 2] *= np.float32(1e-4)
        params[4]["w"][2] *= np.float32(1e-4)
    answer = numpy_gradient(params, x, y)
    assert fn.check_gradients(NETWORK, SQUARED, params, x, y, grads=answer).ok
    answer[1]["w"][1, 2] *= 1.03
    report = fn.check_gradients(NETWORK, SQUARED, params, x, y, grads=answer)
    assert [(row.where, row.verdict) for row in report.rows if row.verdict != "right"] == [
        ("layer 2, w[1, 2]", "wrong")
    ]
    assert 0.025 < report.rows[3].error < 0.03
    with pytest.raises(AssertionError, match=r"NOT right: layer 2, w\[1, 2\]"):
        report.raise_if_wrong()


def test_float32_answers_of_large_layers_and_batches_are_right_and_three_percent_in_them_is_not():
    net, m = fn.mlp((50, 500, 2)), 1000
    given = params_of(net), random(1, m, 50), random(2, m, 2)
    params, x, y = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), given)
    answer = numpy_gradient(params, x, y)
    one_by_one = np.zeros_like(answer[1]["w"])  # a sum in float32 over the examples, the least exact of all
    hidden = np.tanh(x @ params[0]["w"] + params[0]["b"])
    for came_in, delta in zip(hidden, hidden @ params[2]["w"] + params[2]["b"] - y):
        one_by_one += np.outer(came_in, delta)
    answer[1]["w"] = one_by_one / np.float32(m)
    assert fn.check_gradients(net, SQUARED, params, x, y, grads=answer, entries=5).ok
    answer[0]["w"][7, 11] *= 1.03
    report = fn.check_gradients(net, SQUARED, params, x, y, grads=answer, entries=5)
    assert [row.where for row in report.rows if row.verdict == "wrong"] == ["layer 1, w[7, 11]"]


@pytest.mark.fast
def test_what_was_computed_in_float32_may_come_as_float64():
    given, answer = answered()
    listed = [{name: leaf.tolist() for name, leaf in layer.items()} for layer in answer]
    assert fn.check_gradients(NETWORK, SQUARED, *given, grads=listed).ok
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), given)
    assert not fn.check_gradients(NETWORK, SQUARED, *wide, grads=listed).ok  # of float64 parameters it is not right


@pytest.mark.fast
def test_an_answer_may_come_in_any_form_that_has_a_dict_for_each_layer():
    net = fn.Chain(fn.Residual(fn.Chain(fn.Dense(3, 3), fn.Tanh())), fn.LayerNorm(3), fn.Dense(3, 2, bias=False))
    params, options = params_of(net), {"penalty": fn.L2(0.1), "weights": [0, 1, 2, 3]}
    _, grads = jax.jit(lambda p: fn.value_and_grad(net, SQUARED, p, X, Y, **options))(params)
    inner, norm, last = grads[0][0], grads[1], grads[2]
    for answer in (grads, [inner, norm, last], [inner, {}, norm, last, ()], [[inner], [norm, [last]]]):
        same = answer_of(params, answer, []).grads
        assert jax.tree.map(np.shape, same) == jax.tree.map(np.shape, params)
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, same, grads)))
    assert fn.check_gradients(net, SQUARED, params, X, Y, grads=[inner, norm, last], **options, entries=2).ok


@pytest.mark.fast
@pytest.mark.parametrize(
    ("wrong", "reduction", "remark"),
    [
        (lambda g: 4 * g, "mean", "4 times the gradient in every entry: it is the sum over the examples, not their"),
        (lambda g: g, "sum", "0.25 times the gradient in every entry: it is the mean, not the sum"),
        (lambda g: -g, "mean", "-1 times the gradient in every entry: its sign is turned"),
        (lambda g: 2 * g, "mean", r"2 times the gradient in every entry\.$"),
        (lambda g: g.T if g.shape == (4, 4) else g, "mean", r"^layer 2, w is transposed: its entries are w\[from, to"),
    ],
)
def test_a_mistake_that_explains_all_of_an_answer_is_told(wrong, reduction, remark):
    given, answer = answered()
    report = fn.check_gradients(NETWORK, SQUARED, *given, grads=jax.tree.map(wrong, answer), reduction=reduction)
    assert not report.ok
    (said,) = report.remarks
    assert re.search(remark, said), said
    assert said in str(report)


@pytest.mark.fast
def test_a_slope_at_a_kink_may_be_any_between_the_sides():
    net, params = fn.Chain(fn.ReLU(), fn.Dense(1, 1)), ((), {"w": np.ones((1, 1)), "b": np.zeros(1)})
    net, params = fn.Chain(fn.Dense(1, 1), net), ({"w": np.ones((1, 1)), "b": np.zeros(1)}, params)
    x, y = np.array([[0.0]]), np.array([[1.0]])
    for slope, right in ((0.0, True), (-1.0, True), (-1.03, False)):
        answer = [{"w": [[0.0]], "b": [slope]}, {"w": [[0.0]], "b": [-1.0]}]
        assert fn.check_gradients(net, SQUARED, params, x, y, grads=answer).ok == right, slope


@pytest.mark.fast
def test_an_answer_that_is_not_finite_is_wrong_and_named():
    given, answer = answered()
    answer[1]["w"][1, 2] = np.nan
    report = fn.check_gradients(NETWORK, SQUARED, *given, grads=answer)
    assert [row.where for row in report.rows if row.verdict != "right"] == ["layer 2, w[1, 2]"]
    assert not report.remarks


@pytest.mark.fast
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a[:2], "a dict of arrays for each of the 3 layers with parameters, in order, got 2 of them"),
        (lambda a: [a[0]["w"], *a[1:]], "got ndarray outside a dict"),
        (lambda a: [{"w": a[0]["w"]}, *a[1:]], "layer 1 has 'b', 'w', got 'w'"),
        (lambda a: [*a[:2], a[2] | {"c": 1.0}], "layer 3 has 'b', 'w', got 'b', 'c', 'w'"),
        (lambda a: [a[0] | {"w": a[0]["w"].T}, *a[1:]],
         r"layer 1, w has shape \(4, 3\), expected \(3, 4\)\. A matrix is w\[from, to\]: give w\.T\."),
        (lambda a: [a[0] | {"b": a[0]["b"][None]}, *a[1:]], r"layer 1, b has shape \(1, 4\), expected \(4,\)\.$"),
        (lambda a: [a[0] | {"b": [1.0, [2.0]]}, *a[1:]], "layer 1, b is no array"),
        (lambda a: [a[0] | {"b": list("abcd")}, *a[1:]], "layer 1, b is <U1, expected real numbers"),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused_by_name(change, message):
    given, answer = answered()
    with pytest.raises((TypeError, ValueError), match=f"grads: .*{message}"):
        fn.check_gradients(NETWORK, SQUARED, *given, grads=change(answer))

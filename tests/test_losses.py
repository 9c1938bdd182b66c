"""Every loss against JAX, at ordinary and at extreme outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from table import LOSSES, disagreement, random, target

import funcnet as fn

value_and_delta = jax.jit(lambda loss, output, y: (loss.value(output, y), loss.delta(output, y)))
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("loss", "classes"),
    [(loss, classes) for loss in LOSSES for classes in (True, False) if classes or isinstance(loss, fn.CrossEntropy)],
    ids=repr,
)
@pytest.mark.parametrize("positions", [(), (3,)], ids=str)
def test_delta_is_the_derivative_of_value(loss, positions, classes):
    output = 2 * random(0, 6, *positions, 4)
    y = target(loss, output.shape, classes=classes)
    weights = random(1, 6, *positions)

    @jax.jit
    def both(output):
        automatic = jax.grad(lambda a: jnp.sum(weights * loss.value(a, y)))
        return weights[..., None] * loss.delta(output, y), automatic(output)

    assert disagreement(*both(output)) <= 1e-12


@each_loss
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_costs_are_held_in_float32_or_better_and_delta_in_the_outputs_type(loss, dtype):
    output = random(0, 6, 3, 4, dtype=dtype)
    y = target(loss, output.shape, dtype=dtype)
    costs, delta = jax.eval_shape(lambda a, y: (loss.value(a, y), loss.delta(a, y)), output, y)
    assert costs.shape == (6, 3)
    assert costs.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    assert (delta.shape, delta.dtype) == (output.shape, dtype)


@pytest.mark.fast
def test_values_are_those_of_optax():
    a, y = 2 * random(0, 6, 4), random(1, 6, 4)
    classes, chances = target(fn.CrossEntropy(), a.shape), target(fn.CrossEntropy(), a.shape, classes=False)

    @jax.jit
    def values(a, y, classes, chances):
        entropy, smooth = optax.losses.softmax_cross_entropy, optax.smooth_labels(jax.nn.one_hot(classes, 4), 0.1)
        of_classes = optax.losses.softmax_cross_entropy_with_integer_labels
        return [
            (fn.SquaredError().value(a, y), optax.losses.l2_loss(a, y).sum(-1)),
            (fn.AbsoluteError().value(a, y), abs(a - y).sum(-1)),
            (fn.Huber(0.7).value(a, y), optax.losses.huber_loss(a, y, delta=0.7).sum(-1)),
            (fn.LogCosh().value(a, y), optax.losses.log_cosh(a, y).sum(-1)),
            (fn.CrossEntropy().value(a, classes), of_classes(a, classes)),
            (fn.CrossEntropy().value(a, chances), entropy(a, chances)),
            (fn.CrossEntropy(0.1).value(a, classes), entropy(a, smooth)),
            (fn.BinaryCrossEntropy().value(a, chances), optax.losses.sigmoid_binary_cross_entropy(a, chances).sum(-1)),
        ]

    for value, expected in values(a, y, classes, chances):
        assert disagreement(value, expected) <= 1e-14


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_exact_in_float32_for_huge_logits(smoothing):
    loss = fn.CrossEntropy(smoothing)
    wide = np.array([[1e4, 1e4 - 1, 0], [-1e4, 1e4, 3], [1e4, 1e4, 1e4], [-1e4, -1e4 + 0.5, -1e4]])
    for y in (jnp.array([0, 0, 2, 1]), jnp.array([1, 2, 0, 0])):
        narrow = jnp.asarray(wide, jnp.float32)
        exact = np.asarray(narrow, np.float64)
        (costs, delta), (exact_costs, exact_delta) = (value_and_delta(loss, logits, y) for logits in (narrow, exact))
        assert np.allclose(costs, exact_costs, rtol=1e-6, atol=0)
        assert np.allclose(delta, exact_delta, rtol=1e-5, atol=1e-7)


@pytest.mark.fast
def test_labels_out_of_range_are_nan_under_jit():
    logits = random(0, 4, 3)
    y = jnp.array([0, 3, -1, 2])
    costs, delta = jax.jit(lambda a, y: (fn.CrossEntropy().value(a, y), fn.CrossEntropy().delta(a, y)))(logits, y)
    assert np.isnan(costs).tolist() == [False, True, True, False]
    assert np.isnan(delta).all(-1).tolist() == [False, True, True, False]
    costs = jax.jit(fn.BinaryCrossEntropy().value)(logits, jnp.full((4, 3), 1.5))
    assert np.isnan(costs).all()


def test_binary_cross_entropy_takes_booleans_and_integers():
    logits, y = random(0, 4, 3), random(1, 4, 3) > 0
    loss = fn.BinaryCrossEntropy()
    expected = loss.value(logits, y.astype(jnp.float64))
    assert (loss.value(logits, y) == expected).all()
    assert (loss.value(logits, np.asarray(y, int)) == expected).all()


@pytest.mark.fast
@pytest.mark.parametrize("row", [[3.0, 3.0, 3.0], [-0.5, 1.0, 0.5], [np.nan, 0.5, 0.5]])
def test_probabilities_that_are_none_are_nan_under_jit(row):
    logits = random(0, 2, 3)
    q = jnp.array([row, [0.2, 0.3, 0.5]])
    loss = fn.CrossEntropy()
    costs, delta = jax.jit(lambda a, q: (loss.value(a, q), loss.delta(a, q)))(logits, q)
    assert np.isnan(costs).tolist() == [True, False]
    assert np.isnan(delta).all(-1).tolist() == [True, False]


def test_probabilities_are_those_of_scipy_and_of_the_cost():
    logits, y = 5 * random(0, 7, 3, 4), jnp.asarray(np.random.default_rng(1).integers(0, 4, (7, 3)))

    @jax.jit
    def run(logits, y):
        entropy, binary = fn.CrossEntropy(), fn.BinaryCrossEntropy()
        both = entropy.probabilities(logits), binary.probabilities(logits)
        return both, (entropy.value(logits, y), binary.value(logits, jnp.ones_like(logits)))

    (chances, yes), (costs, binary_costs) = jax.tree.map(np.asarray, run(logits, y))
    assert np.allclose(chances, scipy.special.softmax(logits, axis=-1), rtol=1e-13)
    of_label = np.take_along_axis(chances, np.asarray(y)[..., None], -1)[..., 0]
    assert np.allclose(costs, -np.log(of_label), rtol=1e-12)
    assert np.allclose(yes, scipy.special.expit(logits), rtol=1e-13)
    assert np.allclose(binary_costs, -np.log(yes).sum(-1), rtol=1e-12)
    for loss in (fn.CrossEntropy(), fn.BinaryCrossEntropy()):
        far = loss.probabilities(jnp.array([[1e4, -1e4]], jnp.float32))
        assert far.tolist() == [[1.0, 0.0]]
        assert far.dtype == jnp.float32


@pytest.mark.fast
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int64])
def test_the_labels_type_does_not_count_the_classes(dtype):
    """JAX's one_hot counts in the labels' type: 300 classes are more than 8 bits hold."""
    for classes in (200, 256, 300):
        logits, labels = random(0, 5, classes), np.array([0, 1, 99, 120, 127])
        found = value_and_delta(fn.CrossEntropy(), logits, labels.astype(dtype))
        assert disagreement(found, value_and_delta(fn.CrossEntropy(), logits, labels)) == 0
        assert np.allclose(found[0], scipy.special.logsumexp(logits, -1) - logits[np.arange(5), labels])


@pytest.mark.fast
@pytest.mark.parametrize("far", [3e38, np.inf])
def test_what_has_no_share_adds_nothing_however_far_off(far):
    """0·∞ would be NaN: a class or an answer without a share costs 0."""
    wide = np.float32
    logits = np.array([[far, 0, -far], [0, 0, -far], [far, far, 0]], wide)
    costs, delta = value_and_delta(fn.CrossEntropy(), logits, np.array([0, 1, 1]))
    assert np.allclose(costs, [0, np.log(2), np.log(2)], atol=1e-6)
    assert np.allclose(delta, [[0, 0, 0], [0.5, -0.5, 0], [0.5, -0.5, 0]])
    halves = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]], wide)
    assert np.allclose(value_and_delta(fn.CrossEntropy(), logits, halves)[0], costs)
    costs, delta = value_and_delta(fn.BinaryCrossEntropy(), wide([[far, -far], [-far, 0]]), wide([[1, 0], [0, 1]]))
    assert np.allclose(costs, [0, np.log(2)])
    assert np.allclose(delta, [[0, 0], [0, -0.5]])
    assert not np.isnan(value_and_delta(fn.BinaryCrossEntropy(), wide([[far]]), wide([[0]]))[0])  # but far, and wrong


@pytest.mark.fast
def test_log_cosh_keeps_its_digits_near_0():
    gaps = np.array([[3e-4], [1e-6], [0.1], [0.999], [1.001], [20.0], [1e4]])
    exact = np.log(np.cosh(np.minimum(gaps, 20.0)))[:, 0]
    exact[:2] = gaps[:2, 0] ** 2 / 2
    exact[-1] = 1e4 - np.log(2)
    for dtype, digits in ((np.float32, 1e-6), (np.float64, 1e-7)):
        costs, _ = value_and_delta(fn.LogCosh(), gaps.astype(dtype), np.zeros((7, 1), dtype))
        assert np.allclose(costs, exact, rtol=digits, atol=0)


@pytest.mark.fast
@pytest.mark.parametrize("weight", [0.5, 3.0, (0.5, 1.0, 2.0, 4.0)], ids=str)
def test_positive_weights_are_those_of_copies(weight):
    """A yes of weight 3 costs as much as three of them."""
    logits, answers = 2 * random(0, 6, 4), np.random.default_rng(1).integers(0, 2, (6, 4))
    loss, w = fn.BinaryCrossEntropy(positive_weight=weight), np.broadcast_to(weight, 4)
    each = np.log1p(np.exp(np.where(answers, -logits, logits))) * np.where(answers, w, 1)
    costs, delta = value_and_delta(loss, logits, answers.astype(float))
    assert np.allclose(costs, each.sum(-1), rtol=1e-12)
    p = scipy.special.expit(np.asarray(logits))
    assert np.allclose(delta, np.where(answers, w * (p - 1), p), rtol=1e-12)
    columns = loss.hessian_columns(logits, answers.astype(float))
    expected = p * (1 - p) * np.where(answers, w, 1)
    assert np.allclose(np.einsum("cmi,cmj->mij", columns, columns), np.eye(4) * expected[:, None], rtol=1e-12)


def test_positive_weights_that_do_not_fit():
    with pytest.raises(ValueError, match="there are 2 positive weights for 3 outputs"):
        fn.BinaryCrossEntropy(positive_weight=(1.0, 2.0)).value(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
    for weight in (0.0, -1, (1.0, 0.0), ()):
        with pytest.raises(ValueError, match="positive_weight must be above 0"):
            fn.BinaryCrossEntropy(positive_weight=weight)
    with pytest.raises(ValueError, match="Use kind 'exact'"):
        fn.BinaryCrossEntropy(positive_weight=2.0).sample(jax.random.key(0), jnp.zeros((2, 3)))

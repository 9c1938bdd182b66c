"""The worksheet of one attention head: every line computes what it says, and the gradient is `jax.grad`'s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expressions import evaluated
from table import random

import funcnet as fn

HEAD = fn.Chain(fn.Dense(3, 6), fn.Attention(2, 1))
SQUARED = fn.SquaredError()
LOWERED = "₀₁₂₃₄₅₆₇₈₉"


def lines_of(sheet):
    return {line.name.text: line for section in sheet.sections for line in section.equations}


def array(sheet, letter, shape, order=None):
    """A letter's numbers as the worksheet prints them; what it does not print is 0."""
    lines, values = lines_of(sheet), np.zeros(shape)
    for place in np.ndindex(*shape):
        name = letter + ",".join(LOWERED[unit + 1] for unit in place)
        values[place] = lines[name].value if name in lines else 0.0
    return values


def started(net, T=4, n=3, d=2):
    params = fn.init(net, jax.random.key(0))
    params = jax.tree.map(lambda p: p + 0.1 * random(3, *p.shape), params)
    return params, random(1, 1, T, n), random(2, 1, T, d)


@pytest.mark.fast
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("loss", "reduction"), [(SQUARED, "mean"), (fn.Huber(0.7), "sum")], ids=repr)
def test_every_line_computes_what_it_says(causal, loss, reduction):
    net = fn.Chain(fn.Dense(3, 6), fn.Attention(2, 1, causal=causal))
    params, x, y = started(net)
    weights = jnp.array([[1.0, 0.5, 0.0, 2.0]])
    sheet = fn.worksheet(net, loss, params, x, y, weights=weights, reduction=reduction, learning_rate=0.3, digits=17)
    lines = [line for line in lines_of(sheet).values() if line.numbers.text]
    assert len(lines) > 100
    assert (array(sheet, "x", (4, 3)) == x[0]).all()
    assert (array(sheet, "y", (4, 2)) == y[0]).all()  # as given, where the weight is 0, too
    for line in lines:
        assert abs(evaluated(line.numbers.text) - line.value) < 1e-12, line.name.text

    def cost(params, x):
        return fn.cost(net, loss, params, x, y, weights=weights, reduction=reduction)

    J, (grads, _) = jax.jit(jax.value_and_grad(cost, (0, 1)))(params, x)
    assert abs(lines_of(sheet)["J"].value - J) < 1e-12
    w, b = np.asarray(grads[0]["w"]), np.asarray(grads[0]["b"])
    assert abs(array(sheet, "∂J/∂θ", (6, 3)) - w.T).max() < 1e-12 * abs(w).max()
    assert abs(array(sheet, "∂J/∂b", (6,)) - b).max() < 1e-12 * abs(w).max()
    assert abs(array(sheet, "new θ", (6, 3)) - (np.asarray(params[0]["w"]) - 0.3 * w).T).max() < 1e-12
    after = cost(jax.tree.map(lambda p, g: p - 0.3 * g, params, grads), x)
    assert abs(lines_of(sheet)["new J"].value - after) < 1e-12


@pytest.mark.fast
@pytest.mark.parametrize("bias", [True, False])
def test_what_cancels_is_0_in_float32_too(bias):
    net = fn.Chain(fn.Dense(3, 6, bias=bias), fn.Attention(2, 1))
    params, x, y = jax.tree.map(lambda a: np.asarray(2 * a, np.float32), started(net))
    sheet = fn.worksheet(net, SQUARED, params, x, y, weights=np.ones(1, np.float32), digits=17)
    lines = lines_of(sheet)
    for name in ("∂J/∂S₁,₁", "∂J/∂q₁,₁", "∂J/∂q₁,₂"):
        assert lines[name].value == 0, name
    for line in lines.values():
        rounded = line.name.text.startswith(("J", "∂J/∂o"))  # by the loss, in float32
        if line.numbers.text and not rounded:
            assert abs(evaluated(line.numbers.text) - line.value) < 1e-6 * max(abs(line.value), 1), line.name.text
    assert ("∂J/∂b₃" in lines) == bias
    if bias:
        assert abs(lines["∂J/∂b₃"].value) < 1e-13


@pytest.mark.fast
def test_the_way_back_to_queries_keys_and_values_is_that_of_the_layer():
    net, (x, y) = fn.Attention(2, 1), (random(1, 1, 4, 6), random(2, 1, 4, 2))
    sheet = fn.worksheet(net, SQUARED, (), x, y, reduction="sum", digits=17)
    parts = np.concatenate([array(sheet, f"∂J/∂{letter}", (4, 2)) for letter in "qkv"], 1)
    automatic = jax.jit(jax.grad(lambda x: fn.cost(net, SQUARED, (), x, y, reduction="sum")))(x)[0]
    assert abs(parts - automatic).max() < 1e-12 * abs(automatic).max()
    weights = array(sheet, "P", (4, 4))
    assert np.allclose(weights.sum(1), 1, atol=1e-12)
    assert (weights[np.triu_indices(4, 1)] == 0).all()
    titles = [section.title for section in sheet.sections]
    assert titles[0] == "Inputs and targets"
    assert titles[-1] == "Back to the keys"


@pytest.mark.fast
def test_each_line_of_a_head_says_what_it_computes():
    x, y = jnp.array([[[0.0, 1.0, 2.0], [0.0, 1.0, 4.0]]]), jnp.array([[[2.0], [1.0]]])  # q, k, v of two positions
    sheet = fn.worksheet(fn.Attention(1, 1), SQUARED, (), x, y)
    for line in (
        "S₂,₁ = q₂,₁ · k₁,₁ = 0 × 1 = 0",
        "P₂,₁ = exp(S₂,₁) / (exp(S₂,₁) + exp(S₂,₂)) = exp(0) / (exp(0) + exp(0)) = 0.5",
        "o₂,₁ = P₂,₁ · v₁,₁ + P₂,₂ · v₂,₁ = 0.5 × 2 + 0.5 × 4 = 3",
        "J₂ = ½ (o₂,₁ - y₂,₁)² = ½ (3 - 1)² = 2",
        "J  = ∂J/∂J₁ · J₁ + ∂J/∂J₂ · J₂ = 0.5 × 0 + 0.5 × 2 = 1",
        "∂J/∂o₂,₁ = ∂J/∂J₂ · (o₂,₁ - y₂,₁) = 0.5 × (3 - 1) = 1",
        "∂J/∂v₁,₁ = P₁,₁ · ∂J/∂o₁,₁ + P₂,₁ · ∂J/∂o₂,₁ = 1 × 0 + 0.5 × 1 = 0.5",
        "∂J/∂P₂,₂ = ∂J/∂o₂,₁ · v₂,₁ = 1 × 4 = 4",
        "D₂       = ∂J/∂o₂,₁ · o₂,₁ = 1 × 3 = 3",
        "∂J/∂S₂,₂ = P₂,₂ · (∂J/∂P₂,₂ - D₂) = 0.5 × (4 - 3) = 0.5",
        "∂J/∂q₂,₁ = ∂J/∂S₂,₁ · k₁,₁ + ∂J/∂S₂,₂ · k₂,₁ = -0.5 × 1 + 0.5 × 1 = 0",
    ):
        assert line in str(sheet), line


def test_trainable_and_notation_of_a_head():
    params, x, y = started(HEAD)
    sheet = fn.worksheet(
        HEAD, SQUARED, params, x, y, learning_rate=0.1, trainable=({"w": False, "b": True}, ()), notation="w"
    )
    names = [line.name.text for line in sheet.sections[-2].equations]
    assert names == ["η", *(f"new b{LOWERED[unit]}" for unit in range(1, 7))]
    assert "w₁,₂" in lines_of(sheet)
    latex = sheet.to_latex()
    assert r"/ \sqrt{2}" in latex
    assert not set(latex) & set("θδη√·×∂" + LOWERED)


@pytest.mark.fast
def test_a_blank_head_asks_for_all_that_is_computed():
    params, x, y = started(HEAD)
    task = fn.worksheet(HEAD, SQUARED, params, x, y, learning_rate=0.1, blank=True)
    given = [section.title for section in task.sections if all(line.given for line in section.equations)]
    assert given == ["The parameters", "Inputs and targets"]
    asked = [line for section in task.sections for line in section.equations if not line.given]
    assert str(task).count("= ______") == len(asked) > 100
    assert "P₂,₁ = exp(S₂,₁) / (exp(S₂,₁) + exp(S₂,₂)) = ______" in str(task)
    assert "∂J/∂J₃ = 0.25" in str(task)  # it weighs all that follows, and no formula says it
    assert "q\u209c,ⱼ is feature j of position t" in str(task)
    assert "The first third of the outputs is q" in str(task).replace("\n", " ")


@pytest.mark.parametrize(
    ("net", "loss", "x", "options", "message"),
    [
        (fn.Chain(fn.Dense(3, 6), fn.Attention(2, 2)), SQUARED, (1, 4, 3), {}, "it writes one head"),
        (fn.Chain(fn.Dense(3, 6), fn.Tanh(), fn.Attention(2, 1)), SQUARED, (1, 4, 3), {}, "behind its projection"),
        (fn.Chain(fn.Tanh(), fn.Attention(2, 1)), SQUARED, (1, 4, 6), {}, "it writes one head"),
        (fn.Chain(fn.GRU(3, 6), fn.Attention(2, 1)), SQUARED, (1, 4, 3), {}, "behind its projection"),
        (fn.Chain(HEAD, fn.Dense(2, 2)), SQUARED, (1, 4, 3), {}, "behind its projection"),
        (fn.Attention(2, 1), SQUARED, (1, 4, 6), {"learning_rate": 0.1}, "has no parameters to update"),
        (HEAD, SQUARED, (1, 0, 3), {}, r"x: .* one position or more, .* got shape \(1, 0, 3\)"),
        (fn.Chain(fn.Dense(100, 9), fn.Attention(3, 1)), SQUARED, (1, 1, 100), {}, "make about 5,4"),
        (HEAD, SQUARED, (2, 4, 3), {}, r"x: .* one text .* got shape \(2, 4, 3\)\. Take one: x\[:1\] and y\[:1\]"),
        (HEAD, SQUARED, (1, 40, 3), {}, "40 positions with heads of 2 features make about"),
        (HEAD, SQUARED, (1, 4, 3), {"names": [["a"]]}, "names: an attention head numbers"),
        (HEAD, fn.BinaryCrossEntropy(), (1, 4, 3), {}, "is not covered behind an attention head"),
    ],
)
def test_what_a_head_does_not_cover_is_refused_by_name(net, loss, x, options, message):
    params = fn.init(net, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        fn.worksheet(net, loss, params, random(1, *x), jnp.zeros((*x[:2], 3 if x[2] == 100 else 2)), **options)


def test_a_worksheet_of_a_head_is_not_written_under_jit():
    params, x, y = started(HEAD)
    with pytest.raises(TypeError, match="cannot be called under jit"):
        jax.jit(lambda params: fn.worksheet(HEAD, SQUARED, params, x, y))(params)
    with pytest.raises(TypeError, match="segment_ids are taken by"):
        fn.worksheet(HEAD, SQUARED, params, (np.asarray(x), np.ones((1, 4), int)), y)

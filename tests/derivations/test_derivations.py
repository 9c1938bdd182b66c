"""Derivations: every factor and every sum against automatic differentiation, and how they are written."""

import dataclasses
import json
import math
from html.parser import HTMLParser
from itertools import pairwise, product

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from table import ACTIVATIONS, LOSSES, TWO_NET, TWO_PARAMS, TWO_X, TWO_Y, params_of, random, target

import funcnet as fn

ELEMENTWISE = [layer for layer in ACTIVATIONS if getattr(layer, "elementwise", False)]
TWO = (TWO_NET, fn.SquaredError(), TWO_PARAMS, TWO_X, TWO_Y)


def close(found, expected, tolerance=1e-12):
    return abs(found - expected) <= tolerance * max(1.0, abs(expected))


def entry(net, grads, weight):
    """∂J/∂θ in a tree like params, found by another way than the library's: the weight's own layer by counting."""
    layer, source, to = weight
    dense = [leaf for leaf in jax.tree.leaves(grads, is_leaf=lambda part: isinstance(part, dict)) if leaf]
    return float(dense[layer - 1]["b"][to] if source is None else dense[layer - 1]["w"][source, to])


def every_weight(net):
    dense = [layer for layer in net.layers if isinstance(layer, fn.Dense)]
    for number, layer in enumerate(dense, 1):
        sources = [*range(layer.n_in), *([None] if layer.bias else [])]
        yield from ((number, source, to) for source in sources for to in range(layer.n_out))


gradient_of_cost = jax.jit(jax.grad(fn.cost, argnums=2), static_argnames="reduction")


@jax.jit
def derivatives_along(net, loss, params, x, y):
    """∂J/∂a of the output, ∂a/∂z and ∂z/∂a of every layer for one example, each by JAX on its own."""
    a, slopes, ws = x, [], []
    blocks = []
    for layer, own in zip(net.layers, params):
        if isinstance(layer, fn.Dense):
            blocks.append([layer, own, []])
        else:
            blocks[-1][2].append(layer)
    for layer, own, activations in blocks:
        z = layer.forward(own, a)[0]
        ws.append(jax.jacobian(lambda a, layer=layer, own=own: layer.forward(own, a)[0][0])(a)[:, 0])

        def f(z, activations=activations):
            for activation in activations:
                z = activation.forward((), z)[0]
            return z

        slopes.append(jnp.diag(jax.jacobian(lambda z, f=f: f(z)[0])(z)[:, 0]))
        a = f(z)
    return jax.grad(lambda a: loss.value(a, y)[0])(a)[0], slopes, ws


def check_against_jax(net, loss, params, x, y, weights=None, reduction="mean", most=8):
    options = {"weights": weights, "reduction": reduction}
    automatic = gradient_of_cost(net, loss, params, x, y, **options)
    every = list(every_weight(net))
    for weight in every[:: math.ceil(len(every) / most)]:
        derivation = fn.explain(net, loss, params, x, y, weight, largest=10**6, **options)
        assert close(derivation.value, entry(net, automatic, weight))
        assert close(sum(path.product for path in derivation.paths), derivation.value)
        assert close(sum(part.value for part in derivation.parts), derivation.value)
        assert abs(derivation.difference) <= 1e-12
        assert derivation.rest == 0
        assert derivation.path_count == len(derivation.paths)


# An activation gives one factor of a path and the loss another: each of them in turn, the other going round.
FACTORS = [(ELEMENTWISE[i % len(ELEMENTWISE)], LOSSES[i % len(LOSSES)]) for i in range(len(ELEMENTWISE))]


@pytest.mark.parametrize(("activation", "loss"), FACTORS, ids=repr)
def test_every_factor_is_the_automatic_derivative(activation, loss):
    net = fn.Chain(fn.Dense(2, 3), activation, fn.Dense(3, 2), activation, fn.Dense(2, 2))
    params, x, y = params_of(net), random(1, 1, 2), target(loss, (1, 2))
    cost_slope, slopes, ws = jax.tree.map(np.asarray, derivatives_along(net, loss, params, x, y))
    derivation = fn.explain(net, loss, params, x, y, (1, 1, 2))
    assert [path.units for path in derivation.paths] == [(2, j, k) for j, k in product(range(2), range(2))]
    for path in derivation.paths:
        one, two, three = path.units
        expected = [
            cost_slope[three],
            slopes[2][three],
            ws[2][three, two],
            slopes[1][two],
            ws[1][two, one],
            slopes[0][one],
            float(x[0, 1]),
        ]
        assert all(close(factor.value, number) for factor, number in zip(path.factors, expected, strict=True))
        assert path.product == math.prod(factor.value for factor in path.factors)
    assert derivation.factor_count == 4 * 7
    check_against_jax(net, loss, params, x, y)


@settings(max_examples=6)
@given(
    hidden=st.lists(st.integers(1, 4), min_size=0, max_size=3),
    ends=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    activation=st.sampled_from(ELEMENTWISE),
    output=st.sampled_from([None, *ELEMENTWISE]),
    loss=st.sampled_from(LOSSES),
    m=st.integers(1, 3),
    bias=st.booleans(),
    reduction=st.sampled_from(["mean", "sum"]),
    weighted=st.booleans(),
)
def test_drawn_networks(hidden, ends, activation, output, loss, m, bias, reduction, weighted):
    sizes, layers = [ends[0], *hidden, ends[1]], []
    for below, above in pairwise(sizes):
        layers += [fn.Dense(below, above, bias=bias), activation]
    layers = [*layers[:-1], *([] if output is None else [output])]
    net = fn.Chain(*layers)
    params, x, y = params_of(net), random(2, m, ends[0]), target(loss, (m, ends[1]))
    if isinstance(loss, fn.CrossEntropy) and ends[1] == 1:
        loss, y = fn.SquaredError(), random(5, m, 1)
    weights = np.arange(m, dtype=float) if weighted and m > 1 else None
    check_against_jax(net, loss, params, x, y, weights, reduction, most=4)


def test_two_by_two_to_its_digits():
    expected = {
        (2, 0, 0): 0.082167040564, (2, 0, 1): -0.022602540477, (2, 1, 0): 0.082667627848, (2, 1, 1): -0.022740242216,
        (1, 0, 0): 0.000438567734, (1, 0, 1): 0.000497712735, (1, 1, 0): 0.000877135469, (1, 1, 1): 0.000995425471,
    }  # fmt: skip
    for weight, value in expected.items():
        found = fn.explain(*TWO, weight)
        assert close(found.value, value, 5e-13)
        assert close(sum(path.product for path in found.paths), value, 5e-13)
    found = fn.explain(*TWO, (1, 0, 0))
    factors = [factor.value for factor in found.paths[0].factors]
    # ∂J/∂a² = a - y, a²(1 - a²), w², a¹(1 - a¹), x
    assert np.allclose(factors, [0.741365069552, 0.186815601609, 0.4, 0.241300709, 0.05], rtol=0, atol=5e-10)
    assert np.allclose([step.value for step in found.steps[:3]], [0.138498561629, -0.038098236517, 0.008771354689])
    assert found.label.text == "θ⁽¹⁾₁,₁"
    assert found.title.text == "∂J/∂θ⁽¹⁾₁,₁"
    assert [factor.name for factor in found.paths[1].factors] == [
        "∂J/∂a⁽²⁾₂", "∂a⁽²⁾₂/∂z⁽²⁾₂", "∂z⁽²⁾₂/∂a⁽¹⁾₁", "∂a⁽¹⁾₁/∂z⁽¹⁾₁", "∂z⁽¹⁾₁/∂θ⁽¹⁾₁,₁",
    ]  # fmt: skip


def test_every_step_is_named_and_its_numbers_give_its_value():
    steps = {step.name.text: step for step in fn.explain(*TWO, (1, 1, 0), digits=17).steps}
    assert list(steps) == ["δ⁽²⁾₁", "δ⁽²⁾₂", "δ⁽¹⁾₁", "∂J/∂θ⁽¹⁾₁,₂"]
    assert steps["δ⁽²⁾₂"].formula.text == "∂J/∂a⁽²⁾₂ · ∂a⁽²⁾₂/∂z⁽²⁾₂"
    assert steps["δ⁽¹⁾₁"].formula.text == "(δ⁽²⁾₁ · θ⁽²⁾₁,₁ + δ⁽²⁾₂ · θ⁽²⁾₂,₁) · ∂a⁽¹⁾₁/∂z⁽¹⁾₁"
    assert steps["∂J/∂θ⁽¹⁾₁,₂"].formula.text == "δ⁽¹⁾₁ · x₂"
    assert "= (0.138499 × 0.4 + (-0.0380982) × 0.5) × 0.241301 = 0.00877135" in str(fn.explain(*TWO, (1, 1, 0)))
    net = fn.mlp((2, 3, 9, 4, 2), fn.Tanh(), fn.Sigmoid())
    data = params_of(net), random(1, 1, 2), random(2, 1, 2)
    for step in (*steps.values(), *fn.explain(net, fn.SquaredError(), *data, (1, 1, 2), digits=17).steps):
        assert close(eval(step.numbers.text.replace("×", "*")), step.value)
    assert step.formula.text == "δ⁽¹⁾₃ · x₂"
    long = fn.explain(net, fn.SquaredError(), *data, (1, 1, 2)).steps
    assert "(Σₖ δ⁽²⁾ₖ θ⁽²⁾ₖ,₃) · ∂a⁽¹⁾₃/∂z⁽¹⁾₃" in [step.formula.text for step in long]
    assert "and 3 smaller ones in layer 2" in [step.note for step in long]


def test_one_neuron_to_its_digits():
    net = fn.Chain(fn.Dense(2, 1), fn.Sigmoid())
    params, x = fn.from_weights(net, [[[2.0], [-3.0]]], [-3.0]), jnp.array([[-1.0, -2.0]])
    y = fn.predict(net, params, x) - 1  # so that ∂J/∂a is 1, and the derivatives are those of a
    for weight, value in {(1, 0, 0): -0.196611933, (1, 1, 0): -0.393223866, (1, None, 0): 0.196611933}.items():
        assert close(fn.explain(net, fn.SquaredError(), params, x, y, weight).value, value, 5e-10)


def test_factors_are_counted():
    one = fn.mlp((1, 1, 1), fn.Sigmoid(), fn.Sigmoid())
    assert fn.factor_counts(one) == (8, 6)
    assert fn.factor_counts(TWO_NET) == (52, 18)
    weights = [weight for weight in every_weight(TWO_NET) if weight[1] is not None]
    found = [fn.explain(*TWO, weight) for weight in weights]
    assert [derivation.factor_count for derivation in found] == [10] * 4 + [3] * 4
    assert sum(derivation.factor_count for derivation in found) == 52
    assert len({factor.name for derivation in found for path in derivation.paths for factor in path.factors}) == 18
    drawn = fn.mlp((3, 4, 2, 3), fn.Tanh())
    params, x, y = params_of(drawn), random(1, 1, 3), random(2, 1, 3)
    every = [
        fn.explain(drawn, fn.SquaredError(), params, x, y, w, largest=99)
        for w in every_weight(drawn)
        if w[1] is not None
    ]
    names = [factor.name for derivation in every for path in derivation.paths for factor in path.factors]
    assert fn.factor_counts(drawn) == (len(names), len(set(names)))


def test_the_largest_paths_are_the_largest_and_the_rest_is_summed():
    net, loss = fn.mlp((3, 4, 5, 4, 3), fn.Tanh()), fn.CrossEntropy()
    params, x, y = params_of(net), random(1, 3, 3), jnp.array([0, 2, 1])
    for options in ({"example": 1}, {}):
        every = fn.explain(net, loss, params, x, y, (1, 2, 3), largest=10**6, **options)
        sizes = sorted((abs(path.product) for path in every.paths), reverse=True)
        for count in (1, 2, 7, 20):
            some = fn.explain(net, loss, params, x, y, (1, 2, 3), largest=count, **options)
            assert np.allclose([abs(path.product) for path in some.paths], sizes[:count], rtol=1e-14, atol=0)
            assert some.path_count == len(every.paths) == (60 if options else 180)
            assert close(sum(path.product for path in some.paths) + some.rest, some.value)
            assert f"sum of the other {some.path_count - count}" in str(some)


def test_paths_are_not_enumerated():
    net = fn.mlp((3, *[20] * 12, 2), fn.Tanh())
    found = fn.explain(net, fn.SquaredError(), params_of(net), random(1, 1, 3), random(2, 1, 2), (1, 0, 5), largest=3)
    assert found.path_count == 20**11 * 2
    assert len(found.paths) == 3
    assert close(sum(path.product for path in found.paths) + found.rest, found.value)
    assert "14 smaller ones in layer 3" in str(found)


def test_an_example_and_the_mean_with_every_examples_part():
    net, loss = fn.mlp((2, 3, 2), fn.SiLU()), fn.LogCosh()
    params, x, y = params_of(net), random(1, 4, 2), random(2, 4, 2)
    each = [fn.explain(net, loss, params, x, y, (1, 1, 0), example=i) for i in range(4)]
    whole = fn.explain(net, loss, params, x, y, (1, 1, 0))
    assert close(whole.value, sum(found.value for found in each) / 4)
    assert [part.share for part in whole.parts] == [0.25] * 4
    assert all(close(part.value, found.value / 4) for part, found in zip(whole.parts, each))
    assert [path.example for path in each[2].paths] == [2, 2]
    assert [path.factors[0].name for path in whole.paths] == [f"∂J/∂J{i}" for i in "₁₁₂₂₃₃₄₄"]
    assert each[0].paths[0].factors[0].name == "∂J/∂a⁽²⁾₁"
    weighted = fn.explain(net, loss, params, x, y, (1, 1, 0), weights=jnp.array([1.0, 0.0, 3.0, 0.0]))
    assert close(weighted.value, (each[0].value + 3 * each[2].value) / 4)
    assert weighted.parts[1].value == 0


def test_nested_chains_and_activations_in_a_row_are_one_chain():
    inner = fn.Chain(fn.Dense(3, 2), fn.Chain(fn.Tanh(), fn.Softplus()))
    nested = fn.Chain(fn.Sigmoid(), fn.Chain(fn.Dense(2, 3), fn.Chain()), inner)
    params, x, y = params_of(nested), random(1, 2, 2), random(2, 2, 2)
    automatic = gradient_of_cost(nested, fn.SquaredError(), params, x, y)
    for weight in ((1, 0, 2), (1, None, 1), (2, 1, 0)):
        found = fn.explain(nested, fn.SquaredError(), params, x, y, weight)
        assert close(found.value, entry(nested, automatic, weight))
        assert abs(found.difference) < 1e-15
    single = fn.Dense(2, 2)
    assert close(fn.explain(single, fn.SquaredError(), params_of(single), x, y, (1, 0, 1)).difference, 0)
    assert fn.explain(nested, fn.SquaredError(), params, x, y, (1, 0, 2)).headings[2].text == "a⁽⁰⁾₁"


def test_narrow_types_state_their_difference():
    params = jax.tree.map(lambda leaf: leaf.astype(np.float32), TWO_PARAMS)
    found = fn.explain(
        TWO_NET, fn.SquaredError(), params, TWO_X.astype(np.float32), TWO_Y.astype(np.float32), (1, 0, 0)
    )
    assert 0 < abs(found.difference) < 1e-9


def test_notation_and_names():
    found = fn.explain(*TWO, (2, 0, 1), notation="w", names=[["hours", "sleep"], None, ["score", "joy"]])
    assert found.label.text == "w⁽²⁾_{joy,1}"
    assert found.label.latex == r"w^{(2)}_{\text{joy},1}"
    assert found.paths[0].factors[0].name == "∂J/∂a⁽²⁾_{joy}"
    assert "the weight to joy from unit 1. It is layer 2, w[0, 1]" in found.about
    bias = fn.explain(*TWO, (1, None, 1))
    assert bias.label.text == "b⁽¹⁾₂"
    assert bias.paths[0].factors[-1] == bias.paths[1].factors[-1]
    assert bias.paths[0].factors[-1].value == 1
    assert "the bias of unit 2. It is layer 1, b[1]" in bias.about
    wide = fn.mlp((12, 11, 1), fn.Tanh())
    of_wide = fn.explain(wide, fn.SquaredError(), params_of(wide), random(1, 1, 12), random(1, 1, 1), (1, 11, 10))
    assert of_wide.label.text == "θ⁽¹⁾₁₁,₁₂"


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.open, self.shown = set(), [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.open += [] if tag == "br" else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown += data


HOSTILE = [
    ["<script>alert(1)</script>", "\"quotes\" & 'more'"],
    ["</td></table>", "größe 数"],
    ["$x_1^2 \\%{~#}$", "a\x1b[31m\nb"],
]


@pytest.mark.parametrize("options", [{}, {"largest": 1}])
def test_hostile_names_are_shown_as_text(options):
    for weight in ((1, 0, 0), (1, 1, 1), (2, 0, 1), (2, None, 0)):
        found = fn.explain(*TWO, weight, names=HOSTILE, **options)
        page = Tags()
        page.feed(found.to_html())
        assert page.open == []
        assert page.tags <= {"div", "style", "p", "b", "i", "sup", "sub", "span", "table", "tr", "td", "br"}
        assert HOSTILE[0 if weight[0] == 1 else 1][weight[1] or 0] in page.shown or weight[1] is None
        assert "\x1b" not in str(found) + found.to_html() + found.to_latex()
        assert "\\x1b[31m\\nb" in str(fn.explain(*TWO, (2, 0, 1), names=HOSTILE))
        latex = found.to_latex()
        assert latex.replace(r"\{", "").replace(r"\}", "").count("{") == latex.replace(r"\{", "").replace(
            r"\}", ""
        ).count("}")
        assert "<script" not in latex
        assert all(mark not in latex.replace(rf"\{mark}", "") for mark in "$%#")
    named = fn.explain(*TWO, (1, 0, 0), names=[["a_b", "c"], None, None])
    assert named.label.latex == r"\theta^{(1)}_{1,\text{a}\_ \text{b}}"


def test_nan_and_infinity_are_shown_as_such():
    for bad, shown, tex in ((jnp.nan, "NaN", r"\mathrm{NaN}"), (jnp.inf, "∞", r"\infty")):
        params = (TWO_PARAMS[0], (), {**TWO_PARAMS[2], "w": TWO_PARAMS[2]["w"].at[0, 1].set(bad)}, ())
        found = fn.explain(TWO_NET, fn.SquaredError(), params, TWO_X, TWO_Y, (1, 0, 0), largest=1)
        assert found.paths[0].units == (0, 1)
        for text in (str(found), found.to_html()):
            assert shown in text
            assert "nan" not in text
            assert "inf" not in text.replace("infer", "")
        assert tex in found.to_latex()
    net = fn.Dense(1, 1, bias=False)
    found = fn.explain(net, fn.SquaredError(), fn.from_weights(net, [[[jnp.inf]]]), [[-1.0]], [[0.0]], (1, 0, 0))
    assert "-∞ × 1 × (-1) = ∞" in " ".join(str(found).split())


def test_it_is_plain_data():
    found = fn.explain(*TWO, (1, 0, 0))
    read = json.loads(json.dumps(dataclasses.asdict(found)))
    assert read["paths"][1]["factors"][2] == {
        "name": "∂z⁽²⁾₂/∂a⁽¹⁾₁",
        "latex": r"\frac{\partial z^{(2)}_{2}}{\partial a^{(1)}_{1}}",
        "html": found.paths[1].factors[2].html,
        "value": 0.5,
    }
    assert read["value"] == found.value
    assert found == fn.explain(*TWO, (1, 0, 0))
    assert found._repr_latex_().startswith("$$\n\\begin{aligned}")
    assert found._repr_html_() == found.to_html()
    assert repr(found) == str(found)


def test_text_fits_a_terminal():
    net = fn.mlp((4, 5, 5, 3), fn.Tanh())
    params, x, y = params_of(net), random(1, 30, 4), random(2, 30, 3)
    for options in ({}, {"example": 3}):
        text = str(fn.explain(net, fn.SquaredError(), params, x, y, (1, 2, 3), **options))
        assert max(map(len, text.splitlines())) <= 110
    assert str(fn.explain(net, fn.SquaredError(), params, x, y, (1, 2, 3))).count("(J") == 10


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"weight": (3, 0, 0)},
            ValueError,
            "there is no layer 3. The layers with parameters are 1: Dense(2, 2); 2: Dense",
        ),
        ({"weight": (0, 0, 0)}, ValueError, "there is no layer 0"),
        ({"weight": (1, 2, 0)}, ValueError, "where from is 0 … 1 (or None) and to is 0 … 1"),
        ({"weight": (1, 0, -1)}, ValueError, "there is no such weight in layer 1, Dense(2, 2)"),
        ({"weight": (1, 0)}, ValueError, "expected (layer, from, to)"),
        ({"weight": (1.0, 0, 0)}, ValueError, "expected (layer, from, to)"),
        ({"weight": (None, 0, 0)}, ValueError, "expected (layer, from, to)"),
        ({"weight": (True, 0, 0)}, ValueError, "expected (layer, from, to)"),
        ({"largest": 0}, ValueError, "largest: expected how many paths"),
        ({"digits": 0}, ValueError, "digits: expected 1 to 17"),
        ({"notation": "v"}, ValueError, "notation: expected 'θ' or 'w'"),
        ({"names": [["a", "b"]]}, ValueError, "expected 3 lists"),
        ({"names": ["ab", None, None]}, ValueError, "names[0] is 'ab'"),
        ({"names": [None, ["a"], None]}, ValueError, "of sizes [2, 2, 2], but names[1] is ['a']"),
        ({"example": 1}, ValueError, "example: expected an index from 0 to 0, got 1"),
        ({"example": 0, "weights": jnp.ones(1)}, ValueError, "weights have no use for one example"),
        ({"reduction": "max"}, ValueError, "'mean' or 'sum'"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change, error, words):
    with pytest.raises(error) as raised:
        fn.explain(*TWO, **({"weight": (1, 0, 0)} | change))
    assert words in str(raised.value)


@fn.spec
class Own:
    """A user's own layer without parameters that says nothing more."""

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        return 2 * x, ()

    def backward(self, params, tape, delta):
        return 2 * delta, delta

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (fn.Softmax(), "leave it out and use CrossEntropy()"),
        (fn.LogSoftmax(), "LogSoftmax() is not covered"),
        (fn.Dropout(0.5), "Dropout(0.5) is not covered"),
        (fn.LayerNorm(2), "use fn.backprop, to check them fn.check_gradients"),
        (fn.Residual(fn.Dense(2, 2)), "Residual(Dense(2, 2)) is not covered"),
        (Own(), "elementwise = True"),
    ],
    ids=repr,
)
def test_a_layer_that_is_not_covered_is_named(layer, words):
    net = fn.Chain(fn.Dense(2, 2), layer)
    for call in (
        lambda: fn.explain(net, fn.SquaredError(), params_of(net), TWO_X, TWO_Y, (1, 0, 0)),
        lambda: fn.worksheet(net, fn.SquaredError(), params_of(net), TWO_X, TWO_Y),
        lambda: fn.factor_counts(net),
    ):
        with pytest.raises(ValueError, match="paths are followed through chains of Dense layers") as raised:
            call()
        assert words in str(raised.value)


def test_other_misuse_is_refused():
    net = fn.Dense(2, 2, bias=False)
    with pytest.raises(ValueError, match="has no bias"):
        fn.explain(net, fn.SquaredError(), params_of(net), TWO_X, TWO_Y, (1, None, 0))
    with pytest.raises(ValueError, match="no Dense layer"):
        fn.explain(fn.Tanh(), fn.SquaredError(), (), TWO_X, TWO_Y, (1, 0, 0))
    with pytest.raises(ValueError, match="expected x of shape"):
        fn.explain(TWO_NET, fn.SquaredError(), TWO_PARAMS, TWO_X[None], TWO_Y[None], (1, 0, 0))
    with pytest.raises(TypeError, match="cannot be called under jit"):
        jax.jit(lambda params: fn.explain(*TWO[:2], params, *TWO[3:], (1, 0, 0)).value)(TWO_PARAMS)
    with pytest.raises(TypeError, match="expected a layer"):
        fn.factor_counts("net")

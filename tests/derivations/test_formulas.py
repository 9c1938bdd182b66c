"""What activations and losses say of themselves is true, and is what a worksheet and a page print."""

import json
import re
from types import SimpleNamespace
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from expressions import evaluated
from table import ACTIVATIONS, LOSSES, params_of, random, target

import funcnet as fn
from funcnet.derivations.formulas import brackets, formula_of, over_outputs, summed, written
from funcnet.derivations.notation import Pen

ELEMENTWISE = [layer for layer in ACTIVATIONS if getattr(layer, "elementwise", False)]
TEXT, LATEX, HTML = (Pen(form, "θ", (None,) * 3, 17) for form in ("text", "latex", "html"))


@fn.spec
class Cube:
    """A user's activation: y = strength · x³."""

    strength: float = 2.0
    elementwise: ClassVar[bool] = True

    @property
    def formula(self):
        return f"{self.strength:g} z³", f"{3 * self.strength:g} z²"

    def init(self, key):
        return ()

    def forward(self, params, x):
        return self.strength * x**3, x

    def backward(self, params, tape, delta):
        return 3 * self.strength * tape**2 * delta, delta

    def gradient(self, tape, deltas):
        return ()


@fn.spec
class Silent:
    """The same without a formula."""

    elementwise: ClassVar[bool] = True
    init, forward, backward, gradient = (vars(Cube)[name] for name in ("init", "forward", "backward", "gradient"))
    strength: float = 2.0


@fn.spec
class Quartic:
    """A user's loss: Σ (a - y)⁴."""

    formula: ClassVar[tuple[str, str]] = ("(a - y)² (a - y)²", "4 (a - y)³")

    def value(self, output, y):
        return jnp.sum((output - y) ** 4, axis=-1)

    def delta(self, output, y):
        return 4 * (output - y) ** 3


@fn.spec
class Sums:
    """A user's own layer of weighted sums."""

    n_in: int
    n_out: int

    def init(self, key):
        return {"w": jnp.ones((self.n_in, self.n_out)), "b": jnp.zeros(self.n_out)}

    def forward(self, params, x):
        return x @ params["w"] + params["b"][None], x

    def backward(self, params, tape, delta):
        return delta @ params["w"].T, delta

    def gradient(self, tape, deltas):
        return {"w": tape.T @ deltas, "b": deltas.sum(0)}

    def as_dense(self, tape, deltas):
        return tape[:, None], deltas[:, None], True


@fn.spec
class SumsOfSquares(Sums):
    """Weighted sums, but not of what comes in."""

    def forward(self, params, x):
        return x**2 @ params["w"] + params["b"][None], x

    def backward(self, params, tape, delta):
        return 2 * tape * (delta @ params["w"].T), delta

    def gradient(self, tape, deltas):
        return {"w": tape.T**2 @ deltas, "b": deltas.sum(0)}

    def as_dense(self, tape, deltas):
        return tape[:, None] ** 2, deltas[:, None], True


@pytest.mark.fast
@pytest.mark.parametrize("layer", [*ELEMENTWISE, Cube()], ids=repr)
def test_an_activations_formula_is_true(layer):
    value, derivative = formula_of(layer)
    z = np.array([-2.5, -0.7, 0.4, 1.0, 3.0])
    a, tape = layer.forward((), jnp.asarray(z))
    slope, _ = layer.backward((), tape, jnp.ones(5))
    for point in zip(z.tolist(), a.tolist(), slope.tolist()):
        of = dict(zip("za", point))
        assert evaluated(value, z=of["z"]) == pytest.approx(of["a"], rel=1e-5)
        assert evaluated(derivative, **of) == pytest.approx(point[2], rel=1e-5)
        numbers = written(TEXT, derivative, of)
        assert evaluated(numbers) == pytest.approx(point[2], rel=1e-5), numbers


@pytest.mark.fast
@pytest.mark.parametrize("loss", [*LOSSES, Quartic()], ids=repr)
@pytest.mark.parametrize("classes", [True, False])
def test_a_losss_formula_is_true(loss, classes):
    a, y = random(1, 3, 4), target(loss, (3, 4), classes=classes)
    value, derivative = formula_of(loss)
    chances = np.asarray(loss.probabilities(a)) if hasattr(loss, "probabilities") else np.zeros((3, 4))
    targets = np.asarray(y if y.ndim == 2 else np.eye(4)[y])
    delta = loss.delta(a, y)
    for i in range(3):
        letters = [
            {"a": float(a[i, k]), "y": float(targets[i, k]), "p": float(chances[i, k]), "C": 4} for k in range(4)
        ]
        assert sum(evaluated(value, **of) for of in letters) == pytest.approx(float(loss.value(a, y)[i]))
        assert evaluated(summed([written(TEXT, value, of) for of in letters])) == pytest.approx(loss.value(a, y)[i])
        np.testing.assert_allclose([evaluated(derivative, **of) for of in letters], delta[i], rtol=1e-12, atol=1e-12)
        if y.ndim == 1 and (of_class := getattr(loss, "class_formula", None)):
            assert evaluated(of_class, **letters[int(y[i])]) == pytest.approx(float(loss.value(a, y)[i]))


def test_every_activation_and_loss_of_funcnet_has_a_formula():
    for name in fn.__all__:
        cls = getattr(fn, name)
        if isinstance(cls, type) and getattr(cls, "elementwise", False):
            assert any(type(layer) is cls for layer in ELEMENTWISE), name
            assert formula_of(cls()), name
        if isinstance(cls, type) and cls.__module__ == "funcnet.losses":
            assert formula_of(cls()), name


@pytest.mark.parametrize(
    ("expression", "values", "expected"),
    [
        ("a (1 - a)", {"a": -2.0}, "-2 (1 - (-2))"),
        ("1 - a²", {"a": -2.0}, "1 - (-2)²"),
        ("a²", {"a": 1e-9}, "(1e-09)²"),
        ("1 - a²", {"a": "a⁽¹⁾₁"}, "1 - (a⁽¹⁾₁)²"),
        ("0.01 z", {"z": 3.0}, "0.01 × 3"),
        ("exp(z)", {"z": -3.0}, "exp(-3)"),
        ("y z", {"y": 2.0, "z": -3.0}, "2 × (-3)"),
        ("p - y with p = σ(a)", {"p": 0.5, "y": 1.0, "a": 9.0}, "0.5 - 1"),
        ("½ (1 + t) with t = tanh(z)", {"z": -1.0}, "½ (1 + t) with t = tanh(-1)"),
        ("a (1 - a)", {"a": 0.25, "(1 - a)": 0.75}, "0.25 × 0.75"),
        ("(1 - |a|)²", {"a": -0.25, "(1 - |a|)": 0.75}, "0.75²"),
    ],
)
def test_numbers_stand_in_brackets_where_they_need_them(expression, values, expected):
    assert written(Pen("text", "θ", (), 6), expression, values) == expected


@pytest.mark.fast
def test_brackets_that_hold_a_sum_are_worked_out():
    assert brackets("a (1 - a)", {"z": 9.0, "a": 0.25}) == {"(1 - a)": 0.75}
    assert brackets("(1 - |a|)²", {"z": 9.0, "a": -0.25}) == {"(1 - |a|)": 0.75}
    assert brackets("2 (3 + z)", {"z": -1.0, "a": 0.0}) == {"(3 + z)": 2.0}
    assert brackets("σ(z) + a (1 - σ(z)) + (1 - t²)", {"z": 9.0, "a": 0.25}) == {}


def test_a_slope_is_spelled_out():
    params = fn.from_weights(net := fn.Chain(fn.Dense(1, 1), fn.Sigmoid()), [[[0.0]]])
    sheet = str(fn.worksheet(net, fn.SquaredError(), params, [[1.0]], [[0.0]]))
    assert "∂a⁽¹⁾₁/∂z⁽¹⁾₁ = a⁽¹⁾₁ (1 - a⁽¹⁾₁) = 0.5 × 0.5 = 0.25" in sheet


@pytest.mark.fast
@pytest.mark.parametrize(
    ("value", "dtype", "digits", "expected"),
    [
        (0.3, "float32", 17, "0.3"),
        (0.3, "float64", 17, "0.3"),
        (0.1 + 0.2, "float64", 17, "0.30000000000000004"),
        (0.1 + 0.2, "float64", 6, "0.3"),
        (1 / 3, "float32", 17, "0.33333334"),
        (1 / 3, "float32", 6, "0.333333"),
        (1 / 3, "float16", 17, "0.3333"),
        (1 / 3, "bfloat16", 17, "0.334"),
        (100.0, "float32", 6, "100"),
        (1e20, "float32", 17, "1e+20"),
        (-1234567.0, "float64", 6, "-1.23457e+06"),
        (16777216.0, "float32", 17, "16777216"),
        (0.0, "float32", 17, "0"),
        (1e-40, "float64", 17, "1e-40"),
    ],
)
def test_a_number_has_no_more_digits_than_its_type(value, dtype, digits, expected):
    held = float(jnp.asarray(value, dtype)) if dtype != "float64" else value
    assert Pen("text", "θ", (), digits, dtype).number(held) == expected
    if digits == 17:
        assert jnp.asarray(float(expected), dtype) == jnp.asarray(held, dtype)


def test_other_forms():
    assert written(LATEX, "½ z² where z ≥ 0, else σ(z) + huber(z)", {"z": "z_{1}"}) == (
        r"\tfrac{1}{2} (z_{1})^{2} \text{ where } z_{1} \ge  0, "
        r"\text{ else } \sigma (z_{1}) + \operatorname{huber}(z_{1})"
    )
    assert written(HTML, "1 where z < 0, else <b>", {"z": "z"}) == "1 where z &lt; 0, else &lt;b&gt;"
    assert over_outputs("½ (a - y)²") == "Σₖ ½ (aₖ − yₖ)²"
    assert over_outputs("-y log(p) with p = softmax(a)") == "Σₖ (−yₖ log(pₖ)) with p = softmax(a)"


def sheet_of(net, loss, y):
    return str(fn.worksheet(net, loss, params_of(net), random(1, 1, 2), y))


def test_a_users_formulas_are_printed_on_worksheet_and_page():
    net, y = fn.Chain(fn.Dense(2, 1), Cube(), fn.Dense(1, 2)), random(3, 1, 2)
    sheet = sheet_of(net, Quartic(), y)
    numbers = r"\(?[-.\d]+\)?"
    assert re.search(rf"= Cube\(z⁽¹⁾₁\) = 2 \(z⁽¹⁾₁\)³ = 2 × {numbers}³ = ", sheet)
    assert re.search(rf"∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 6 \(z⁽¹⁾₁\)² = 6 × {numbers}² = ", sheet)
    assert "= 4 (a⁽²⁾₁ - y₁)³ = 4 (" in sheet
    page = fn.explain_page(net, Quartic(), params_of(net), random(1, 1, 2), y, steps=1)
    for text in ('"formula":["2 z³","6 z²"]', '"slope":"4 (aₖ − yₖ)³"', "Σₖ (aₖ − yₖ)² (aₖ − yₖ)²"):
        assert text in json_of(page)


def json_of(page):
    text = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1]
    return json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))


def test_without_a_formula_the_function_is_named():
    net, y = fn.Chain(fn.Dense(2, 1), Silent(), fn.Dense(1, 2)), random(3, 1, 2)
    sheet = sheet_of(net, fn.SquaredError(), y)
    assert re.search(r"a⁽¹⁾₁ = Silent\(z⁽¹⁾₁\) = Silent\([-.\d]+\) = ", sheet)
    assert re.search(r"∂a⁽¹⁾₁/∂z⁽¹⁾₁ = Silent′\(z⁽¹⁾₁\) = Silent′\([-.\d]+\) = ", sheet)
    page = fn.explain_page(net, fn.SquaredError(), params_of(net), random(1, 1, 2), y, steps=1)
    assert '"function":"Silent()","formula":null' in json_of(page)


def test_classes_are_written_with_their_probabilities():
    net = fn.Dense(2, 2)
    sheet = sheet_of(net, fn.CrossEntropy(), jnp.array([1]))
    for line in (
        r"y  = 1",
        r"y₁ = 0",
        r"y₂ = 1",
        r"p₂ = exp\(a⁽¹⁾₂\) / \(exp\(a⁽¹⁾₁\) \+ exp\(a⁽¹⁾₂\)\)\s+= exp\(",
        r"J  = -log\(p₂\) with p = softmax\(a\) = -log\([.\d]+\)",
    ):
        assert re.search(f"^{line}", sheet, re.MULTILINE), line
    assert re.search(r"^∂J/∂a⁽¹⁾₁ += p₁ - y₁ = [.\d]+ - 0 = ", sheet, re.MULTILINE)
    smooth = sheet_of(net, fn.CrossEntropy(label_smoothing=0.1), jnp.array([1]))
    assert "-(0.9 y₁ + 0.1 / 2) log(p₁) - (0.9 y₂ + 0.1 / 2) log(p₂)" in smooth


def test_a_formula_that_is_none_is_refused():
    with pytest.raises(TypeError, match="formula must be two texts"):
        formula_of(SimpleNamespace(formula="z²"))


def test_a_users_own_weighted_sums_are_followed_and_what_is_none_is_refused():
    net, own = (fn.Chain(layer(2, 3), fn.Tanh(), layer(3, 2)) for layer in (fn.Dense, Sums))
    params, x, y = params_of(net), random(1, 2, 2), random(2, 2, 2)
    assert fn.explain(own, fn.SquaredError(), params, x, y, (1, 0, 2)) == fn.explain(
        net, fn.SquaredError(), params, x, y, (1, 0, 2)
    )
    squares = fn.Chain(SumsOfSquares(2, 3), fn.Tanh(), fn.Dense(3, 2))
    for call in (fn.worksheet, fn.explain_page):
        with pytest.raises(ValueError, match=r"SumsOfSquares\(2, 3\) is not covered.* as_dense"):
            call(squares, fn.SquaredError(), params, x, y)
    for layer in (fn.Residual(fn.Dense(2, 2)), fn.FeedbackAlignment(fn.Dense(2, 2))):
        with pytest.raises(ValueError, match="is not covered"):
            fn.worksheet(layer, fn.SquaredError(), params_of(layer), x, y)

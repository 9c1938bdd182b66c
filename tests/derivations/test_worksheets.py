"""Worksheets and summaries: the digits of the worked case, and the compiler's own count of operations."""

import re
from operator import methodcaller

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expressions import evaluated
from table import TWO_NET, TWO_PARAMS, TWO_X, TWO_Y, Scale, backprop, params_of, random, target

import funcnet as fn
from funcnet.derivations.notation import Pen

TWO = (TWO_NET, fn.SquaredError(), TWO_PARAMS, TWO_X, TWO_Y)
WEIGHTS_ONLY = ({"w": True, "b": False}, ()) * 2


def values(sheet, title):
    """The numbers under a heading, by name."""
    (section,) = [section for section in sheet.sections if section.title == title]
    return {line.name.text: line.value for line in section.equations}


def test_two_by_two_to_its_digits():
    sheet = fn.worksheet(*TWO, learning_rate=0.5, trainable=WEIGHTS_ONLY, digits=12)
    expected = {
        "Inputs and targets": {"x₁": 0.05, "x₂": 0.10, "y₁": 0.01, "y₂": 0.99},
        "Forward propagation, layer 1": {"z⁽¹⁾₁": 0.3775, "a⁽¹⁾₁": 0.593269992107, "a⁽¹⁾₂": 0.596884378260},
        "Forward propagation, layer 2": {"a⁽²⁾₁": 0.751365069552, "a⁽²⁾₂": 0.772928465321},
        "The cost": {"J": 0.29837110876000},
        "Error terms, layer 2": {"δ⁽²⁾₁": 0.138498561629, "δ⁽²⁾₂": -0.038098236517},
        "Gradient, layer 2": {"∂J/∂θ⁽²⁾₁,₁": 0.082167040564, "∂J/∂θ⁽²⁾₂,₁": -0.022602540477,
                              "∂J/∂θ⁽²⁾₁,₂": 0.082667627848, "∂J/∂θ⁽²⁾₂,₂": -0.022740242216},
        "Error terms, layer 1": {"δ⁽¹⁾₁": 0.008771354689, "δ⁽¹⁾₂": 0.009954254705},
        "Gradient, layer 1": {"∂J/∂θ⁽¹⁾₁,₁": 0.000438567734, "∂J/∂θ⁽¹⁾₂,₁": 0.000497712735,
                              "∂J/∂θ⁽¹⁾₁,₂": 0.000877135469, "∂J/∂θ⁽¹⁾₂,₂": 0.000995425471},
        "The cost after the update": {"new J": 0.29102777369360},
    }  # fmt: skip
    for title, digits in expected.items():
        found = values(sheet, title)
        assert all(abs(found[name] - value) <= 5e-13 for name, value in digits.items()), title
    printed = str(sheet)
    for number in ("0.593269992107", "0.29837110876", "0.138498561629", "-0.0380982365166", "0.291027773694"):
        assert number in printed
    updated = values(sheet, "Update, all parameters at once")
    assert abs(updated["new θ⁽¹⁾₁,₁"] - (0.15 - 0.5 * 0.000438567734)) < 5e-13
    assert len(updated) == 1 + 8  # η, and the weights: the biases are held fixed


def test_the_sections_stand_in_the_order_of_a_calculation_by_hand():
    titles = [section.title for section in fn.worksheet(*TWO, learning_rate=0.1).sections]
    assert titles == [
        "The parameters", "Inputs and targets", "Forward propagation, layer 1", "Forward propagation, layer 2",
        "The cost", "Error terms, layer 2", "Gradient, layer 2", "Error terms, layer 1", "Gradient, layer 1",
        "Update, all parameters at once", "The cost after the update",
    ]  # fmt: skip
    assert [section.title for section in fn.worksheet(*TWO).sections] == titles[:-2]


@pytest.mark.parametrize(
    ("loss", "reduction"), [(fn.CrossEntropy(), "mean"), (fn.Huber(0.7), "sum"), (fn.SquaredError(), "mean")], ids=repr
)
def test_every_number_of_a_batch(loss, reduction):
    net = fn.Chain(fn.Tanh(), fn.Dense(2, 3, bias=False), fn.GELU(), fn.Sigmoid(), fn.Dense(3, 2))
    params, x, y = params_of(net), random(1, 2, 2), target(loss, (2, 2))
    sheet = fn.worksheet(net, loss, params, x, y, learning_rate=0.3, reduction=reduction, digits=17)
    automatic = jax.jit(jax.value_and_grad(lambda params: fn.cost(net, loss, params, x, y, reduction=reduction)))
    J, grads = jax.tree.map(np.asarray, automatic(params))
    assert abs(values(sheet, "The cost of all examples")["J"] - J) < 1e-12
    updated = jax.tree.map(lambda p, g: np.asarray(p) - 0.3 * g, params, grads)
    new = values(sheet, "Update, all parameters at once")
    for layer, place in ((1, 1), (2, 4)):
        found = values(sheet, f"Gradient, layer {layer}")
        above = {1: "⁽¹⁾", 2: "⁽²⁾"}[layer]
        for source, to in np.ndindex(*params[place]["w"].shape):
            label = f"θ{above}{'₁₂₃'[to]},{'₁₂₃'[source]}"
            assert abs(found[f"∂J/∂{label}"] - grads[place]["w"][source, to]) < 1e-12
            assert abs(new[f"new {label}"] - updated[place]["w"][source, to]) < 1e-12
            assert values(sheet, "The parameters")[label] == params[place]["w"][source, to]
    assert abs(new["new b⁽²⁾₂"] - updated[4]["b"][1]) < 1e-12
    assert "b⁽¹⁾₁" not in values(sheet, "The parameters")
    after, _ = automatic(updated)
    assert abs(values(sheet, "The cost after the update")["new J"] - after) < 1e-12
    costs = backprop(net, loss, params, x, y).costs
    assert abs(values(sheet, "The cost, example 1")["J₂"] - costs[1]) < 1e-12
    assert "x₁" not in str(sheet)  # what comes to the first weights is tanh x, so a⁽⁰⁾
    assert "Sigmoid of GELU(z⁽¹⁾₁)" in str(sheet)
    lines = [line for section in sheet.sections for line in section.equations if "(z" not in line.formula.text]
    computed = [line for line in lines if line.numbers.text]
    assert len(computed) > 40
    for line in computed:
        assert abs(evaluated(line.numbers.text) - line.value) < 1e-12, line.name.text


def test_each_line_says_what_it_computes():
    net = fn.Chain(fn.Dense(2, 1), fn.ReLU(), fn.Dense(1, 1, bias=False))
    params = fn.from_weights(net, [[[2.0], [-3.0]], [[4.0]]], [0.5])
    sheet = fn.worksheet(net, fn.SquaredError(), params, [[1.0, -1.0]], [[20.0]], learning_rate=0.1, notation="w")
    for line in (
        "z⁽¹⁾₁ = w⁽¹⁾₁,₁ · x₁ + w⁽¹⁾₁,₂ · x₂ + b⁽¹⁾₁ = 2 × 1 + (-3) × (-1) + 0.5 = 5.5",
        "a⁽¹⁾₁ = ReLU(z⁽¹⁾₁) = max(0, z⁽¹⁾₁) = max(0, 5.5) = 5.5",
        "∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1 where z⁽¹⁾₁ > 0, else 0 = 1 where 5.5 > 0, else 0 = 1",
        "a⁽²⁾₁ = z⁽²⁾₁ = 22",
        "J = ½ (a⁽²⁾₁ - y₁)² = ½ (22 - 20)² = 2",
        "∂J/∂a⁽²⁾₁     = a⁽²⁾₁ - y₁ = 22 - 20 = 2",
        "∂a⁽²⁾₁/∂z⁽²⁾₁ = 1",
        "δ⁽¹⁾₁         = δ⁽²⁾₁ · w⁽²⁾₁,₁ · ∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 2 × 4 × 1 = 8",
        "∂J/∂w⁽¹⁾₁,₂ = δ⁽¹⁾₁ · x₂ = 8 × (-1) = -8",
        "∂J/∂b⁽¹⁾₁   = δ⁽¹⁾₁ = 8",
        "new w⁽¹⁾₁,₂ = w⁽¹⁾₁,₂ - η · ∂J/∂w⁽¹⁾₁,₂ = -3 - 0.1 × (-8) = -2.2",
    ):
        assert line in str(sheet)
    assert max(map(len, str(fn.worksheet(*TWO, digits=12)).splitlines())) <= 110
    plain = fn.worksheet(fn.Chain(fn.Dense(2, 2), fn.Identity()), fn.SquaredError(), TWO_PARAMS[:2], TWO_X, TWO_Y)
    assert "∂a⁽¹⁾₁/∂z⁽¹⁾₁ = 1\n" in str(plain)


def test_markdown_and_latex():
    sheet = fn.worksheet(*TWO, learning_rate=0.5, names=[["$a_b", "c"], None, None])
    markdown, latex = sheet.to_markdown(), sheet.to_latex()
    assert markdown.count("### ") == markdown.count("\\begin{aligned}") == len(sheet.sections)
    assert markdown.count("$$") == 2 * len(sheet.sections)
    assert latex.count("\\begin{align*}") == latex.count("\\end{align*}") == len(sheet.sections)
    assert r"x_{\$ \text{a}\_ \text{b}} &= 0.05" in latex
    assert r"\text{new }J &= 0.280471" in latex
    assert "Sigmoid" in latex
    assert "′" not in latex
    assert "θ" not in latex.replace("\\theta", "")
    assert sheet._repr_markdown_() == markdown
    assert repr(sheet) == str(sheet)


def single(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


def test_float32_numbers_have_float32s_digits():
    net, loss, *given = TWO
    sheet = fn.worksheet(net, loss, *single(given), learning_rate=0.1, digits=17)
    assert "z⁽¹⁾₁ = θ⁽¹⁾₁,₁ · x₁ + θ⁽¹⁾₁,₂ · x₂ + b⁽¹⁾₁ = 0.15 × 0.05 + 0.2 × 0.1 + 0.35 = 0.3775" in str(sheet)
    assert "η           = 0.1\n" in str(sheet)
    derived = fn.explain(net, loss, *single(given), weight=(1, 0, 0), digits=17)
    for text in (str(sheet), sheet.to_latex(), sheet.to_html(), str(derived), derived.to_latex(), derived.to_html()):
        numbers = re.findall(r"\d*\.\d+", text.partition("</style>")[2] or text)
        assert len(numbers) > 20
        assert max(len(number.replace(".", "").strip("0")) for number in numbers) <= 9
    for section in sheet.sections:
        for line in section.equations:
            shown = Pen("text", "θ", (), 17, "float32").number(line.value)
            assert np.float32(shown) == np.float32(line.value)


def test_a_blank_worksheet_keeps_what_is_given_and_asks_for_all_else():
    options = {"learning_rate": 0.5, "digits": 12}
    task, solved = (fn.worksheet(*TWO, **options, blank=blank) for blank in (True, False))
    assert task.solution == solved == solved.solution
    assert task != solved
    lines = [line for section in task.sections for line in section.equations]
    given = {line.name.text: line.value for line in lines if line.given}
    assert len(given) == 12 + 4 + 1  # parameters, inputs and targets, η
    assert given["θ⁽¹⁾₁,₂"] == 0.2
    to_markdown, to_html = map(methodcaller, ("to_markdown", "to_html"))
    for form, blank in ((str, "______"), (to_markdown, r"\underline{\hspace{2cm}}"), (to_html, 'class="blank"')):
        written = form(task)
        assert written.count(blank) == len(lines) - len(given)
        assert blank not in form(solved)
        for line in lines:
            number = Pen("text", "θ", (), 12).number(line.value)
            if not line.given and len(number) > 8:
                assert number in form(solved).replace("−", "-")
                assert number not in written.replace("−", "-"), line.name.text
    for line in (
        "θ⁽¹⁾₂,₁ = 0.25", "x₁ = 0.05", "y₂ = 0.99", "η           = 0.5",
        "a⁽¹⁾₁ = Sigmoid(z⁽¹⁾₁) = 1 / (1 + exp(-z⁽¹⁾₁)) = ______", "new J = ______",
    ):  # fmt: skip
        assert line in str(task)


def test_a_blank_worksheet_says_all_that_no_formula_says():
    net, x, y = fn.Chain(fn.Dense(2, 2), fn.Identity()), random(1, 2, 2), jnp.array([0, 1])
    weights = jnp.array([1.0, 3.0])
    task = str(fn.worksheet(net, fn.CrossEntropy(), params_of(net), x, y, weights=weights, blank=True))
    assert "∂J/∂J₁ = 0.25" in task
    assert "∂J/∂J₂ = 0.75" in task
    assert "p₁ = exp(a⁽¹⁾₁) / (exp(a⁽¹⁾₁) + exp(a⁽¹⁾₂)) = ______" in task
    binary = fn.worksheet(net, fn.BinaryCrossEntropy(), params_of(net), x[:1], jnp.ones((1, 2)), blank=True)
    assert "p₂ = σ(a⁽¹⁾₂) = ______" in str(binary)
    with pytest.raises(TypeError, match="blank: expected True or False, got 'no'"):
        fn.worksheet(*TWO, blank="no")


def test_the_index_rule_stands_above_the_parameters():
    sheet = fn.worksheet(*TWO, notation="w")
    rule = "w⁽ˡ⁾ⱼ,ᵢ is the weight to unit j of layer l from unit i of the layer before"
    text = " ".join(str(sheet).split())
    assert text.index(rule) < text.index("w⁽¹⁾₁,₁ = 0.15")
    assert "as w[i - 1, j - 1] of w[from, to]; b⁽ˡ⁾ⱼ is the bias of unit j." in text
    # and it is so:
    first = values(sheet, "The parameters")
    assert all(first[f"w⁽¹⁾{'₁₂'[j]},{'₁₂'[i]}"] == TWO_PARAMS[0]["w"][i, j] for i in (0, 1) for j in (0, 1))
    assert "$w^{(l)}_{j,i}$ is the weight to unit $j$ of layer $l$" in sheet.to_markdown()
    assert "<i>w</i><sup>(l)</sup><sub>j,i</sub> is the weight" in sheet.to_html()
    bare = fn.Dense(1, 1, bias=False)
    sheet = fn.worksheet(bare, fn.SquaredError(), params_of(bare), [[1.0]], [[2.0]], names=[["in"], None])
    assert "bias" not in str(sheet)
    assert "Names stand in the place of numbers" in " ".join(str(sheet).split())


def test_saved_worksheets_are_whole_documents(tmp_path):
    sheet = fn.worksheet(*TWO, learning_rate=0.5, names=[["$a_b", "<c>"], None, ["u + v", "é"]])
    for ending in (".md", ".tex", ".html", ".txt"):
        sheet.save(tmp_path / f"sheet{ending}")
    read = {path.suffix: path.read_text("utf-8") for path in tmp_path.iterdir()}
    assert len(read) == 4
    assert read[".md"] == sheet.to_markdown()
    assert read[".txt"] == f"{sheet}\n"
    latex = read[".tex"]
    for part in (r"\documentclass", r"\usepackage{amsmath}", r"\allowdisplaybreaks", sheet.to_latex()):
        assert part in latex
    assert latex.index(r"\begin{document}") < latex.index(r"\subsection") < latex.index(r"\end{document}")
    assert latex.count("{") == latex.count("}") + latex.count(r"\{") - latex.count(r"\}")
    page = read[".html"]
    assert page.startswith("<!doctype html>")
    assert "&lt;c&gt;" in page
    assert not re.search(r"https?:|src=|href=|<c>", page)
    assert page.count("<table>") == page.count("</table>") == len(sheet.sections)
    with pytest.raises(ValueError, match=r"\.md, \.tex, \.html or \.txt, got '.*sheet\.docx'"):
        sheet.save(str(tmp_path / "sheet.docx"))


def test_long_sums_are_broken_on_paper():
    net = fn.Dense(12, 1)
    latex = fn.worksheet(net, fn.SquaredError(), params_of(net), random(1, 1, 12), [[1.0]]).to_latex()
    (block,) = re.findall(r"Forward.*?\\begin{align\*}\n(.*?)\n\\end", latex, re.DOTALL)
    rows = block.split(" \\\\\n")
    assert sum(row.startswith(r"&\quad + ") for row in rows) >= 2
    assert max(map(len, rows)) < 250
    assert block.count(r"\cdot") == 12
    assert block.count(r"\times") == 12


def test_a_large_worksheet_is_refused():
    net = fn.mlp((20, 30, 10))
    with pytest.raises(ValueError, match=r"1 examples and 900 weights make about 5,640 numbers, more than the 2,000"):
        fn.worksheet(net, fn.SquaredError(), params_of(net), random(1, 1, 20), random(2, 1, 10))
    with pytest.raises(ValueError, match=r"Take fewer examples, x\[:1\] and y\[:1\]"):
        fn.worksheet(TWO_NET, fn.SquaredError(), TWO_PARAMS, random(1, 99, 2), random(2, 99, 2))
    with pytest.raises(ValueError, match="learning_rate: expected a positive number"):
        fn.worksheet(*TWO, learning_rate=-1)


def compiled_flops(function, *arguments):
    analysis = jax.jit(function).lower(*arguments).compile().cost_analysis()
    return (analysis[0] if isinstance(analysis, list) else analysis)["flops"]


@pytest.mark.parametrize(
    ("sizes", "activation"),
    [
        ((16, 32, 32, 4), fn.Sigmoid()),
        ((64, 128, 10), fn.ReLU()),
        ((50, 20), fn.GELU()),
        ((64, 128, 10), fn.GELU()),
        ((3, 200, 200, 200, 1), fn.SELU()),
    ],
    ids=str,
)
def test_operations_agree_with_the_compiled_program(sizes, activation):
    net, loss = fn.mlp(sizes, activation), fn.SquaredError()
    params, x, y = params_of(net), random(1, 32, sizes[0]), random(2, 32, sizes[-1])
    table = fn.summary(net, x)
    forward = compiled_flops(lambda params, x: fn.predict(net, params, x), params, x)
    whole = compiled_flops(lambda params, x, y: fn.value_and_grad(net, loss, params, x, y), params, x, y)
    assert abs(table.forward / forward - 1) < 0.05
    assert abs((table.forward + table.backward) / whole - 1) < 0.05


def test_rows_of_a_summary():
    net = fn.Chain(
        fn.Chain(fn.Dense(8, 6), fn.Tanh()), fn.Residual(fn.Chain(fn.Dense(6, 6), fn.ReLU())), Scale(6), fn.Softmax()
    )
    table = fn.summary(net, (4, 5, 8))
    assert [row.layer for row in table.rows][:2] == ["Dense(8, 6)", "Tanh()"]
    assert [row.output for row in table.rows] == [(4, 5, 6)] * 5
    assert [row.parameters for row in table.rows] == [54, 0, 42, 6, 0]
    assert table.parameters == sum(leaf.size for leaf in jax.tree.leaves(params_of(net))) == 102
    assert table.rows[0].forward == 20 * (2 * 8 * 6 + 6)
    assert table.rows[0].backward < 1.1 * 20 * 2 * 8 * 6  # ∂J/∂x of the first layer is nobody's need
    assert table.rows[3].backward > 0
    # Tanh's tape is its output, which the branch's Dense keeps too; Scale keeps its input, Softmax its output.
    assert [row.tape for row in table.rows] == [20 * 8 * 8, 20 * 6 * 8, 20 * 6 * 8, 20 * 6 * 8, 20 * 6 * 8]
    lines = str(table).splitlines()
    assert len(lines) == 8
    assert "total" in lines[-1]
    assert "102" in lines[-1]
    assert repr(table) == str(table)
    in_float32 = fn.summary(net, jnp.ones((4, 5, 8), np.float32))
    assert in_float32.tape * 2 == table.tape


@pytest.mark.parametrize("m", [1, 9, 20])
def test_operations_of_convolutions_are_those_of_the_entries_that_lie_inside(m):
    taps = {3: 3 * 5 - 2, 5: 5 * 5 - 6}  # of a kernel of 3 or 5 over 5 places, "SAME"
    net = fn.Chain(fn.Conv(1, 2, (3, 3)), fn.Conv(2, 4, (5, 5), groups=2), fn.Conv(4, 4, (3, 3), groups=4))
    table = fn.summary(net, (m, 5, 5, 1))
    products = [2 * m * taps[k] ** 2 * outputs for k, outputs in ((3, 2), (5, 4), (3, 4))]
    biases = [m * 25 * outputs for outputs in (2, 4, 4)]
    assert [row.forward for row in table.rows] == [p + b for p, b in zip(products, biases)]
    expected = [passes * p + b for passes, p, b in zip((1, 2, 2), products, biases)]
    assert [row.backward for row in table.rows] == pytest.approx(expected, abs=8)  # a sum has one addition less


def test_a_network_without_parameters_has_no_backward():
    table = fn.summary(fn.Chain(fn.ReLU(), fn.Identity()), (2, 3))
    assert table.backward == 0
    assert table.parameters == 0


@pytest.mark.parametrize("x", [(3,), [1.0, 2.0], jnp.ones(3), jnp.ones((2, 3), int)], ids=str)
def test_an_input_that_is_none_is_refused(x):
    with pytest.raises(ValueError, match=r"x: expected a floating input \(m, \*positions, features\) or its shape"):
        fn.summary(fn.mlp((3, 1)), x)
    with pytest.raises(ValueError, match="expected inputs with 3 features"):
        fn.summary(fn.mlp((3, 1)), (4, 5))

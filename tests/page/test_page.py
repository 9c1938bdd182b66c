"""The page of `explain_page`: what is embedded, and what a reader sees and does in a real browser."""

import base64
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import CHROMIUM, chromium, number
from expressions import evaluated

import funcnet as fn
from funcnet.page import document

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium.")

ASSETS = pathlib.Path(fn.explain_page.__code__.co_filename).parent / "assets"
EVIL = ["<script>hacked = 1</script>", "\"'& </script><img src=x onerror=hacked=2>", "Größe μ 大小"]


def two_by_two(**more):
    """The worked case with fixed biases: the network, loss, parameters and data, and the page."""
    net = fn.mlp((2, 2, 2), fn.Sigmoid(), output=fn.Sigmoid())
    params = fn.from_weights(net, [[[0.15, 0.25], [0.20, 0.30]], [[0.40, 0.50], [0.45, 0.55]]], [0.35, 0.60])
    only = {"w": True, "b": False}
    case = (net, fn.SquaredError(), params, jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]]))
    return case, fn.explain_page(*case, trainable=(only, True, only, True), learning_rate=0.5, **more)


def four_five_five_three(dtype=jnp.float64, **more):
    net = fn.mlp((4, 5, 5, 3), fn.Tanh())
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), fn.init(net, jax.random.key(1)))
    x = jax.random.normal(jax.random.key(2), (5, 4), dtype)
    case = (net, fn.CrossEntropy(), params, x, jnp.array([0, 1, 2, 1, 0]))
    return case, fn.explain_page(*case, **more)


def embedded(page):
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    kind = "<f8" if data["wide"] else "<f4"

    def opened(part):
        if isinstance(part, dict):
            return {name: value if name in LABELS else opened(value) for name, value in part.items()}
        if isinstance(part, list):
            return [opened(value) for value in part]
        return np.frombuffer(base64.b64decode(part), kind) if isinstance(part, str) else part

    return data | {"moments": opened(data["moments"])}


LABELS = {"units"}


def matrix(flat, grads):
    """A layer's embedded gradient, and the same from a dict of arrays."""
    return flat.reshape(-1, grads["w"].shape[1]), np.vstack([grads["w"], np.asarray(grads["b"])[None]])


def test_every_number_is_the_librarys():
    case, page = four_five_five_three(steps=2, learning_rate=(0.5, 0.1))
    net, loss, params, x, y = case
    data = embedded(page)
    assert len(data["moments"]) == 5
    for rate, moments in ((0.5, data["moments"][:3]), (0.1, [data["moments"][0], *data["moments"][3:]])):
        now = params
        for moment in moments:
            J, grads = fn.value_and_grad(net, loss, now, x, y)
            assert moment["cost"][0] == pytest.approx(float(J), rel=1e-14)
            for flat, own in zip(moment["params"], now[::2], strict=True):
                np.testing.assert_allclose(*matrix(flat, own), rtol=1e-13, atol=1e-16)
            bp = fn.backprop(net, loss, now, x, y)
            for i, example in enumerate(moment["examples"]):
                assert example["cost"][0] == pytest.approx(float(bp.costs[i]), rel=1e-14)
                np.testing.assert_allclose(example["a"][-1], bp.output[i], rtol=1e-13, atol=1e-15)
                np.testing.assert_allclose(example["a"][0], bp.tape[1][i], rtol=1e-13, atol=1e-15)
                np.testing.assert_allclose(example["chances"], jax.nn.softmax(bp.output[i]), rtol=1e-14)
            now = jax.tree.map(lambda p, g, rate=rate: p - rate * g, now, grads)
        for moment in moments[:-1]:
            for i, example in enumerate(moment["examples"]):
                assert "gradient" in example, i
        assert "gradient" not in moments[-1]
    J, grads = fn.value_and_grad(net, loss, params, x, y)
    for flat, own in zip(data["moments"][0]["gradient"], grads[::2], strict=True):
        np.testing.assert_allclose(*matrix(flat, own), rtol=1e-14, atol=1e-17)


@pytest.mark.parametrize("largest", [1, 4, 15, 40])
def test_paths_and_the_rest_sum_to_the_gradient_and_are_those_of_explain(largest):
    case, page = four_five_five_three(steps=1, largest=largest)
    net, loss, params, x, y = case
    for i, example in enumerate(embedded(page)["moments"][0]["examples"]):
        _, grads = fn.value_and_grad(net, loss, params, x[i : i + 1], y[i : i + 1])
        for paths, own, flat in zip(example["paths"], grads[::2], example["gradient"], strict=True):
            wanted, given = matrix(flat, own)
            np.testing.assert_allclose(wanted, given, rtol=1e-14, atol=1e-16)
            products = paths["products"].reshape(*wanted.shape, -1)
            np.testing.assert_allclose(products.sum(-1) + paths["rest"].reshape(wanted.shape), wanted, atol=1e-14)
    paths = embedded(page)["moments"][0]["examples"][2]["paths"][0]
    for source, to in ((0, 0), (3, 4), (None, 2)):
        ours = paths["products"].reshape(5, 5, -1)[4 if source is None else source, to]
        derived = fn.explain(*case, (1, source, to), example=2, largest=largest)
        assert [path.units[1:] for path in derived.paths] == [tuple(way) for way in paths["units"][to]]
        np.testing.assert_allclose(ours, [path.product for path in derived.paths], rtol=1e-13)
        assert paths["rest"].reshape(5, 5)[4 if source is None else source, to] == pytest.approx(
            derived.rest, abs=1e-15
        )


def test_paths_through_units_that_are_not_drawn_are_in_the_rest():
    net = fn.mlp((10, 10, 10, 10), fn.Softplus())
    case = (net, fn.CrossEntropy(), fn.init(net, jax.random.key(0)), jax.random.normal(jax.random.key(1), (2, 10)))
    data = embedded(fn.explain_page(*case, jnp.array([3, 9]), steps=1, largest=3))
    assert data["layers"][0]["shown"] == [0, 1, 2, 3, 4, 9]
    for example in data["moments"][0]["examples"]:
        for paths, flat in zip(example["paths"], example["gradient"], strict=True):
            products = paths["products"].reshape(len(flat), -1)
            np.testing.assert_allclose(products.sum(-1) + paths["rest"], flat, rtol=1e-10, atol=1e-15)


def test_sizes():
    _, page = two_by_two()
    assert len(page.encode()) < 100_000
    _, page = four_five_five_three()
    assert 100_000 < len(page.encode()) < 300_000
    _, narrow = four_five_five_three(jnp.float32)
    assert len(narrow.encode()) < 0.75 * len(page.encode())


def test_too_large_is_refused_with_the_size_and_what_to_drop(monkeypatch):
    sentence = r"would have [\d.]+ MB .* examples \(5\) .* x\[:5\]"
    with monkeypatch.context() as patch:
        patch.setattr(document.Descent, "moments", None)  # it is seen before anything is computed
        with pytest.raises(ValueError, match=sentence):
            four_five_five_three(steps=700)
    monkeypatch.setattr(document, "LIMIT", 50_000)
    with pytest.raises(ValueError, match=sentence):  # or only at the end
        four_five_five_three(steps=1)


@pytest.mark.parametrize("layer", [fn.Softmax(), fn.LayerNorm(3), fn.Residual(fn.Dense(3, 3)), fn.Dropout(0.5)])
def test_what_is_not_covered_is_named_with_what_to_use(layer):
    net = fn.Chain(fn.Dense(2, 3), layer, fn.Dense(3, 1))
    with pytest.raises(ValueError, match="fn.backprop") as error:
        fn.explain_page(net, fn.SquaredError(), fn.init(net, jax.random.key(0)), jnp.ones((1, 2)), jnp.ones((1, 1)))
    assert repr(layer) in str(error.value)
    assert "explain_page" in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"example": 1}, "example: expected 0 … 0"),
        ({"steps": -1}, "steps: expected a whole number of 0 or more"),
        ({"largest": 0}, "largest: expected a whole number of 1 or more"),
        ({"learning_rate": (0.1, 0.0)}, "learning_rate: expected learning rates, finite and above 0"),
        ({"learning_rate": float("nan")}, "learning_rate: expected learning rates, finite and above 0"),
        ({"examples": ["a", "b"]}, "must name all 1 examples"),
        ({"names": [["a"], None, None]}, "names"),
    ],
)
def test_wrong_arguments(wrong, message):
    (net, loss, params, x, y), _ = two_by_two(steps=0)
    with pytest.raises(ValueError, match=message):
        fn.explain_page(net, loss, params, x, y, **wrong)


def test_the_file_is_what_is_returned_and_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    _, page = two_by_two(path=target)
    assert target.read_text("utf-8") == page
    assert target.stat().st_mode & 0o777 == 0o644
    monkeypatch.setattr("os.replace", lambda *paths: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        two_by_two(path=target, title="another")
    assert target.read_text("utf-8") == page
    assert [found.name for found in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.thorough
def test_the_story_writes_its_pages(tmp_path):
    root = pathlib.Path(__file__).parent.parent.parent
    command = [sys.executable, "-W", "error", root / "examples" / "10_page.py", "--folder", tmp_path]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, most in (("two_by_two.html", 100_000), ("iris.html", 300_000)):
        assert 50_000 < (tmp_path / name).stat().st_size < most
        assert name in done.stdout


def test_the_page_holds_no_address_and_its_script_no_second_implementation():
    _, page = two_by_two()
    own = page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1998/Math/MathML", "")
    assert not re.search(r"https?:|src=|@import|url\(|fetch|XMLHttp|WebSocket|eval\(", own)
    assert "default-src 'none'" in page
    assert "unsafe" not in page
    script = "".join(path.read_text() for path in ASSETS.glob("*.js"))
    assert set(re.findall(r"Math\.(\w+)", script)) <= {"abs", "max", "min", "floor", "fround", "hypot"}


# ------------------------------------------------------------------------------------------ in the browser


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def view(browser, tmp_path):
    """Opens a page's HTML. Afterwards it must have thrown nothing and asked for nothing but itself."""
    opened = []

    def open_page(html, place="", size=(1366, 768), **looks):
        path = tmp_path / f"page{len(opened)}.html"
        path.write_text(html, "utf-8")
        opened.append(path.as_uri())
        browser.look(*size, calm=True, **looks)
        browser.open(path.as_uri() + place)
        return browser

    browser.errors.clear()
    browser.requests.clear()
    yield open_page
    browser.read("0")
    assert browser.errors == []
    assert {address.partition("#")[0] for address in browser.requests} <= set(opened)


def last_numbers(page):
    """The last number of every line of the current step, all digits."""
    titles = page.read(
        "[...document.querySelectorAll('#now .lines .line')]"
        ".map((line) => [...line.querySelectorAll('.n')].at(-1).title)"
    )
    return [number(text) for text in titles]


def step_of(page):
    return page.read("(({kind, layer}) => kind + layer)(document.querySelector('#now').dataset)")


@needs_chromium
def test_stepping_to_the_end_shows_the_numbers_of_the_library(view):
    (net, loss, params, x, y), html = two_by_two()
    page, now, costs = view(html), params, []
    for descent in range(4):
        bp = fn.backprop(net, loss, now, x, y)
        J, grads = fn.value_and_grad(net, loss, now, x, y)
        costs.append(float(J))
        z = [fn.predict(net.layers[2 * i], now[2 * i], a) for i, a in enumerate((x, bp.tape[1]))]
        wanted = {"start": [*x[0], *y[0]], "z1": z[0][0], "a1": bp.tape[1][0], "z2": z[1][0], "a2": bp.output[0]}
        wanted |= {"cost": [J], "delta2": bp.deltas[2][0], "delta1": bp.deltas[0][0]}
        order = ["start", "z1", "a1", "z2", "a2", "cost", "delta2", "gradient2", "delta1", "gradient1"]
        for step in order if descent < 3 else order[:6]:
            assert step_of(page) == step
            if step in wanted:
                assert last_numbers(page) == [float(value) for value in wanted[step]], step
            else:
                own = grads[2 if step == "gradient2" else 0]
                cells = page.digits("#now td")
                assert cells == [*np.ravel(own["w"]).tolist(), *own["b"].tolist()], step
            page.press("ArrowRight")
        if descent == 3:
            break
        assert step_of(page) == "update"
        now = tuple({"w": p["w"] - 0.5 * g["w"], "b": p["b"]} if p else p for p, g in zip(now, grads, strict=True))
        assert page.digits("#now td .new") == [
            value for own in (now[2], now[0]) for value in (*np.ravel(own["w"]).tolist(), *own["b"].tolist())
        ]
        page.press("ArrowRight")
        assert step_of(page) == "again"
        after = float(fn.cost(net, loss, now, x, y))
        assert page.digits("#now .costs") == [*costs, after]
        assert "cost is lower" in page.texts("#now .why")[0]
        page.press("ArrowRight")
    assert step_of(page) == "cost"
    assert page.read("document.querySelector('#next').getAttribute('aria-disabled')") == "true"
    assert costs[0] == pytest.approx(0.29837110876000, abs=1e-13)
    assert costs[1] == pytest.approx(0.29102777369360, abs=1e-13)
    page.press("ArrowLeft")
    assert step_of(page) == "a2"


def click_line(page, key):
    """A click on a weight's line, away from where lines cross."""
    x, y = page.read(
        f"(() => {{ const line = document.querySelector('#drawing [data-weight=\"{key}\"] .hit');"
        "const svg = line.ownerSVGElement; svg.scrollIntoView({block: 'nearest'});"
        "const b = svg.getBoundingClientRect(), at = (name) => Number(line.getAttribute(name));"
        "return [b.x + at('x1') * 0.6 + at('x2') * 0.4, b.y + at('y1') * 0.6 + at('y2') * 0.4]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        page.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def lit(page):
    return set(page.read("[...document.querySelectorAll('#drawing .weight.on')].map((e) => e.dataset.weight)"))


@needs_chromium
def test_a_click_on_a_weight_shows_its_chain_and_lights_its_paths(view):
    case, html = two_by_two()
    page = view(html)
    for weight, key in (((1, 0, 1), "1.0.1"), ((1, None, 0), "1.2.0"), ((2, 1, 0), "2.1.0")):
        if weight[1] is None:
            page.click(f'#drawing [data-weight="{key}"] .bias')
        else:
            click_line(page, key)
        derived = fn.explain(*case, weight, example=0)
        rows = len(derived.paths)
        assert len(page.texts("#chain .path")) == rows
        for k, path in enumerate(derived.paths, 1):
            shown = page.digits(f"#chain li:nth-child({k})")
            np.testing.assert_allclose(shown[:-1], [factor.value for factor in path.factors], rtol=1e-15)
            assert shown[-1] == pytest.approx(path.product, rel=1e-14)
        sums = [page.digits("#chain .sum")[-1], page.digits("#chain .line:not(.aside)")[-1]]
        assert sums == pytest.approx([derived.value] * 2, rel=1e-15)
        assert f"{'b' if weight[1] is None else 'w'}[" in page.texts("#chain code")[0]
        above = {f"2.{weight[2]}.0", f"2.{weight[2]}.1"} if weight[0] == 1 else set()
        assert lit(page) == {key} | above
        page.press("Escape")
        assert page.texts("#chain .path") == []
    click_line(page, "1.0.1")
    page.click("#chain li:nth-child(2) .path")
    assert lit(page) == {"1.0.1", "2.1.1"}


@needs_chromium
def test_example_and_rate_are_chosen(view):
    case, html = four_five_five_three(steps=2, learning_rate=(0.5, 0.1), example=1)
    net, loss, params, x, y = case
    page = view(html, "#step=6")
    bp = fn.backprop(net, loss, params, x, y)

    def choose(name, value):
        page.read(
            f"(() => {{ const e = document.getElementById('{name}'); e.value = {value};"
            "e.dispatchEvent(new Event('change')); })()"
        )

    page.press("ArrowRight")
    page.press("ArrowLeft")
    assert step_of(page) == "cost"
    assert last_numbers(page)[-2:] == pytest.approx([float(bp.costs[1]), float(bp.costs.mean())], rel=1e-15)
    choose("example", 4)
    assert last_numbers(page)[-2] == pytest.approx(float(bp.costs[4]), rel=1e-15)
    choose("rate", 1)
    choose("descent", 1)
    _, grads = fn.value_and_grad(*case)
    after = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert last_numbers(page)[-1] == pytest.approx(float(fn.cost(net, loss, after, x, y)), rel=1e-15)


@needs_chromium
def test_the_keyboard_and_a_screen_reader_reach_everything(view):
    _, html = four_five_five_three(steps=1)
    page = view(html, "#step=9")
    page.read("document.querySelector('#drawing .weight[tabindex=\"0\"]').focus()")
    page.press("ArrowDown")
    page.press("Enter")
    assert page.read("document.activeElement.dataset.weight") == "1.0.1"
    assert page.read("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert "θ(1) 2,1" in page.texts("#announcement")[0]
    assert "∂J₁/∂θ" in page.texts("#readout")[0] or "θ = " in page.texts("#readout")[0]
    page.press("ArrowRight")
    assert step_of(page) == "gradient2"
    assert page.read("document.activeElement.dataset.weight") == "1.0.1", "a step must not lose the focus"
    page.press("ArrowLeft")
    assert page.texts("#announcement")[0].startswith("Layer 2: the error, sent back, unit 1 of layer 2 ")
    page.press("End")
    assert step_of(page) == "again"
    page.read("document.querySelector('#tables').open = true")
    page.read("new Promise((done) => setTimeout(done, 50))")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    for role, name in roles:
        if role in ("button", "combobox", "table", "region", "image", "navigation", "form"):
            assert name, (role, tree)
    assert len([1 for role, _ in roles if role == "table"]) >= 7
    assert [role for role, _ in roles].count("status") == 1
    # The focus is seen, and Tab passes the drawing in one stop.
    assert page.read("document.querySelectorAll('#drawing [tabindex=\"0\"]').length") == 1


@needs_chromium
def test_hostile_labels_are_shown_as_text(view):
    net = fn.mlp((3, 3, 2), fn.GELU())
    params = fn.init(net, jax.random.key(0))
    html = fn.explain_page(
        net, fn.Huber(), params, jnp.ones((2, 3)), jnp.ones((2, 2)),
        names=(EVIL, None, EVIL[:2]), examples=EVIL[1:], title="</title>" + EVIL[0],
    )  # fmt: skip
    page = view(html, "#weight=1.0.0&step=6")
    assert page.read("typeof hacked") == "undefined"
    assert page.read("document.title") == "</title>" + EVIL[0]
    assert page.texts("h1") == ["</title>" + EVIL[0]]
    assert page.texts("#example option") == EVIL[1:]
    assert page.texts("#drawing .unit title")[:3] == EVIL
    assert EVIL[0] in page.texts("#chain .why")[0]
    assert page.read("document.querySelectorAll('script').length") == 2
    assert page.read("document.querySelectorAll('img').length") == 0


@needs_chromium
def test_nan_and_infinity_are_shown_as_such(view):
    net = fn.Chain(fn.Dense(1, 1))
    case = (net, fn.SquaredError(), fn.from_weights(net, [[[1.0]]]), jnp.ones((1, 1)), jnp.zeros((1, 1)))
    page = view(fn.explain_page(*case, learning_rate=1e200), "#descent=3&step=9")
    assert page.texts("#drawing .cost .value") == ["NaN"]
    assert page.texts("#drawing .weight title") == ["θ(1) 1,1 = NaN", "b(1) 1 = NaN"]
    np.testing.assert_equal(page.digits("#now .costs"), [0.5, np.inf, np.inf, np.nan])
    page.read("new Promise((done) => { addEventListener('hashchange', done); location.hash = '#descent=0&step=99'; })")
    assert step_of(page) == "again"
    assert page.texts("#drawing .value") == ["1", "−2·10²⁰⁰", "∞"]
    assert "higher" in page.texts("#now .why")[0]
    assert page.digits("#now .costs") == [0.5, np.inf]
    page.read("new Promise((done) => { addEventListener('hashchange', done); location.hash = '#descent=2&step=99'; })")
    assert "far too large" in page.texts("#now .why")[0]


@needs_chromium
def test_float32_numbers_have_the_digits_of_float32(view):
    (_, _, params, _, _), html = four_five_five_three(jnp.float32, steps=1)
    page = view(html)
    wanted = np.float32(params[0]["w"][0, 0])
    title = page.read("document.querySelector('#drawing .weight title').textContent").split(" = ")[1]
    assert title == str(wanted).replace("-", "−")


@pytest.mark.thorough
@needs_chromium
@pytest.mark.parametrize("size", [(390, 844), (1366, 768), (1920, 1080)])
def test_it_fits_a_phone_a_laptop_and_a_projector(view, size):
    for html in (two_by_two()[1], four_five_five_three(steps=1)[1]):
        page = view(html, "#step=9&weight=1.0.1", size, mobile=size[0] < 500)
        assert page.read("document.documentElement.scrollWidth") <= size[0]
        smallest = page.read(
            "Math.min(...[...document.querySelectorAll('#drawing .value, #drawing .name')]"
            ".map((e) => parseFloat(getComputedStyle(e).fontSize)))"
        )
        assert smallest >= 8
        page.press("ArrowRight")
        moves = "new Set([...document.querySelectorAll('.fresh *')].map((e) => getComputedStyle(e).animationName))"
        assert page.read(f"[...{moves}]") == ["none"], "motion is off for those who ask for none"


@pytest.mark.thorough
@needs_chromium
@pytest.mark.parametrize(
    ("activation", "loss", "y"),
    [
        (fn.GELU(), fn.Huber(0.7), [[0.0, 1.0, -2.0]]),
        (fn.SELU(), fn.BinaryCrossEntropy(), [[0.0, 1.0, 0.5]]),
        (fn.ELU(0.7), fn.CrossEntropy(0.1), [2]),
        (fn.LeakyReLU(), fn.CrossEntropy(), [1]),
        (fn.Sigmoid(), fn.SquaredError(), [[0.0, 1.0, 0.5]]),
    ],
    ids=repr,
)
def test_formulas_are_printed_with_their_numbers_and_fit_a_phone(view, activation, loss, y):
    net = fn.mlp((2, 3, 3), activation)
    params = jax.tree.map(lambda leaf: leaf + 0.1, fn.init(net, jax.random.key(0)))
    page = view(fn.explain_page(net, loss, params, jnp.array([[0.5, -1.0]]), jnp.array(y), steps=1), size=(390, 844))
    value, slope = (text.replace("-", "−") for text in activation.formula)
    shown = {}
    while page.read("document.querySelector('#next').getAttribute('aria-disabled')") != "true":
        shown |= {step_of(page): page.texts("#now p")}
        assert page.read("document.documentElement.scrollWidth") <= 390, step_of(page)
        page.press("ArrowRight")
    words = {step: " ".join(texts).replace("\u00a0", " ") for step, texts in shown.items()}
    assert f"f(z) = {value}." in words["a1"]
    assert f"f′(z) = {slope}." in words["delta1"]
    assert "∂J/∂aₖ = " in words["delta2"]
    _, numbers, J = shown["cost"][-1].split(" = ")
    assert evaluated(numbers.replace("·", "×")) == pytest.approx(number(J), rel=1e-3)


@needs_chromium
def test_light_and_dark(view):
    _, html = two_by_two(steps=1)
    paper = "getComputedStyle(document.body).backgroundColor"
    light, dark = (view(html, dark=dark).read(paper) for dark in (False, True))
    assert light != dark
    page = view(html)
    page.click("#theme")
    assert page.read(paper) == dark
    page.click("#digits")
    assert page.texts("#now .line .n")[:2] == ["0.05", "0.1"]


@needs_chromium
def test_no_request_can_leave_the_page(browser, tmp_path):
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try_all = (
        f"(async () => {{ const results = [];"
        f"await fetch('{address}/fetch', {{mode: 'no-cors'}})"
        ".then(() => results.push('fetched'), () => results.push('no'));"
        f"const image = new Image(); image.src = '{address}/image'; document.body.append(image);"
        "const script = document.createElement('script');"
        f"script.src = '{address}/script'; document.body.append(script);"
        f"navigator.sendBeacon('{address}/beacon', 'x'); await new Promise((done) => setTimeout(done, 300));"
        "return results; })()"
    )
    try:
        for html, outcome, expected in (
            ("<!doctype html><title>open</title>", ["fetched"], True),  # this test would see a request
            (two_by_two(steps=1)[1], ["no"], False),
        ):
            (tmp_path / "page.html").write_text(html, "utf-8")
            browser.open((tmp_path / "page.html").as_uri())
            assert browser.read(try_all) == outcome
            assert bool(asked) is expected, asked
            asked.clear()
    finally:
        server.shutdown()
        server.server_close()

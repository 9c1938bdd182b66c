"""What a notebook shows: pictures of figures that pyplot does not know, and tables that say what the text says."""

import base64
import pathlib
import pickle
import re
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import nbclient
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from table import params_of

import funcnet as fn
from funcnet.check.reports import Law, Report, Row
from funcnet.diagnosis.network_summary import Row as LayerRow
from funcnet.diagnosis.network_summary import Summary
from funcnet.diagnosis.verdicts import Look
from funcnet.per_example.signals import SIZES, Flow

SETUP = """
import funcnet as fn, jax, jax.numpy as jnp, optax
net, loss, optimizer = fn.mlp((2, 9, 3)), fn.CrossEntropy(), optax.inject_hyperparams(optax.sgd)(0.1)
x = jax.random.normal(jax.random.key(0), (60, 2))
y = jnp.where(x[:, 0] > x[:, 1], 2, jnp.where(x[:, 0] > -1, 1, 0))
train, held = (x[:40], y[:40]), (x[40:], y[40:])
state = fn.train_state(optimizer, fn.init(net, jax.random.key(1)), jax.random.key(2))
options = {"batch_size": 10, "validation": held, "metrics": [fn.Accuracy()]}
state, history = fn.fit(net, loss, optimizer, state, train, epochs=60, telemetry=2, **options)
sweep = {"learning_rate": (0.01, 0.1, 1.0)}
trainings = fn.fit_many(net, loss, optimizer, train, epochs=5, seeds=(0, 1), sweep=sweep, **options)
bp = fn.backprop(net, loss, state.params, *train)
"""
PICTURES = """
history.plot()
trainings.plot("accuracy")
fn.plot_gradient_flow(history, "gradient")
fn.plot_weights(net, state.params, shape=(1, 2))
fn.plot_gradient_norms(net, bp)
fn.plot_decision_regions(net, state.params, *held, points=40)
fn.plot_confusion(fn.predict(net, state.params, x), y)
fn.plot_cost_surface(net, loss, state.params, x, y, ((1, 0, 0), (2, 0, 0)), points=20)
fn.plot_confusion(fn.predict(net, state.params, x), y).figure
"""
TABLES = """
history
trainings
bp
state
fn.gradient_flow(net, bp, state.params)
fn.summary(net, x)
fn.check_gradients(net, loss, state.params, x, y)
fn.check_layer(fn.Tanh(), (), x)
fn.diagnose(net, loss, state.params, *train, validation=held)
fn.explain(net, loss, state.params, x[:1], y[:1], (1, 0, 0))
"""

LOOKS = (
    Look("a < b & c > d", (fn.Verdict("dead units", "layer 2", "all & more", "a <smaller> rate"),), what="units"),
    Look("give optimizer=.", done=False, what="rate"),
)
COLUMNS = {"cost": [3.0, jnp.nan], "a<b> & c": [1.0, 2.0]}
X = jnp.ones((3, 2))
BP = fn.Backprop(jnp.ones(3), jnp.ones((3, 1)), [X, ()], [X, [X, {"<": X}]], X)
MANY = fn.Trainings(
    tuple({"seed": seed} for seed in range(22)),
    fn.TrainState((), (), jnp.ones(22, int), jnp.ones(22)),
    fn.History(("cost",), {"cost": jnp.arange(22.0)[:, None]}, jnp.ones(22, int), jnp.zeros(22, int)),
    ("",) * 22,
    (False,) * 22,
    (),
)
CHECKED = Row("layer 1, w", (0, 1), 0.5, 1.0, None, 2.0, 3, 3, 1, 1, "wrong")
SHOWN = {
    "history": fn.History(tuple(COLUMNS), {name: np.array(a) for name, a in COLUMNS.items()}, 2, 2, "stopped <here>"),
    "a long history": fn.History(("cost",), {"cost": np.arange(50.0)}, 50, 0, note="a note"),
    "a stacked history": MANY.history,
    "trainings": MANY,
    "backprop": BP,
    "a state": fn.TrainState(({"w": X},) * 20, None, "here", jax.random.key(0)),
    "flow": Flow({"layer 1": dict(zip(SIZES, np.arange(7.0))), "layer 2": dict.fromkeys(SIZES, jnp.ones(2))}),
    "summary": Summary((3, 2), (LayerRow("Dense(2, <n>)", (3, 1), 1000, np.nan, 2.0, 0),)),
    "a report": Report("a & b", (CHECKED,), (Law("held <so>", True, "1"), Law("this not", False, "2"))),
    "a report without laws": Report("a", (CHECKED,)),
    "diagnosis": fn.Diagnosis(LOOKS),
    "a healthy one": fn.Diagnosis(LOOKS[1:]),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", SHOWN)
def test_html_says_what_the_text_says(name):
    page = ElementTree.fromstring(f"<div>{SHOWN[name]._repr_html_()}</div>")
    assert " ".join(page.itertext()).split() == repr(SHOWN[name]).split()
    numbers = [cell for cell in page.iter("td") if re.fullmatch(r"[-+.\de]+|nan", cell.text or "")]
    assert all(cell.get("style") == "text-align: right" for cell in numbers)


@pytest.mark.fast
def test_what_stands_out():
    bold = {
        name: [part.text for part in ElementTree.fromstring(f"<div>{shown._repr_html_()}</div>").iter("b")]
        for name, shown in SHOWN.items()
    }
    assert bold["a report"] == ["NOT right: layer 1, w[0, 1]; this not"]
    assert bold["diagnosis"] == ["1 verdict"]
    assert bold["a healthy one"] == ["healthy, as far as was looked"]


@pytest.mark.fast
def test_a_state_is_printed_without_numbers_in_few_lines():
    names, shapes = zip(*(line.split(None, 1) for line in repr(BP).splitlines()[1:]))
    assert names == ("costs", "output", "tape[0]", "deltas[0]", "deltas[1][0]", "deltas[1][1]", "input_delta")
    assert shapes[:3] == ("float64[3]", "float64[3,1]", "float64[3,2]")
    assert shapes[5] == "< float64[3,2]"
    lines = repr(SHOWN["a state"]).splitlines()
    assert len(lines) == 1 + 8 + 3
    assert lines[1].split() == ["params[0]", "w", "float64[3,2]"]
    assert [line.split(None, 1)[1] for line in lines[-5:]] == [
        "13 more", "w float64[3,2]", "no arrays", "'here'", "key<fry>[]",
    ]  # fmt: skip


@pytest.mark.fast
def test_what_is_traced_is_printed_too():
    net, said = fn.mlp((2, 3, 1)), []

    @jax.jit
    def flow(params):
        bp = fn.backprop(net, fn.SquaredError(), params, X, X[:, :1])
        found = fn.gradient_flow(net, bp, params)
        said.extend((repr(bp), repr(found), bp._repr_html_()))
        return found

    found = flow(params_of(net))
    assert "tape[1]      float64[3,3]" in said[0]
    assert "float64[]" in said[1]
    assert re.fullmatch(r"layer 1( +[-+.\de]+){7}", repr(found).splitlines()[1])


@pytest.mark.fast
def test_a_flow_is_a_tree_of_dicts_in_the_order_of_the_layers():
    flow = Flow({f"layer {number}": {"delta": jnp.float64(number)} for number in range(1, 12)})
    same = jax.jit(lambda flow: flow)(flow)
    assert isinstance(same, Flow)
    assert list(same) == list(flow)
    assert jax.tree.map(lambda size: 2 * float(size), same) == {
        name: {"delta": 2.0 * n} for n, name in enumerate(flow, 1)
    }
    assert jax.tree_util.keystr(jax.tree_util.tree_leaves_with_path(flow)[0][0]) == "['layer 1']['delta']"


@pytest.mark.fast
def test_a_picture_is_that_of_savefig_and_given_axes_are_given_back(tmp_path):
    ax = SHOWN["a long history"].plot()
    ax.figure.savefig(tmp_path / "saved.png")
    saved = (tmp_path / "saved.png").read_bytes()
    assert saved.startswith(b"\x89PNG")
    copy = pickle.loads(pickle.dumps(ax.figure))
    assert saved == ax._repr_png_() == ax.figure._repr_png_() == copy.axes[0]._repr_png_()
    own = Figure().subplots()
    assert SHOWN["history"].plot(ax=own) is own
    assert not hasattr(own, "_repr_png_")


@pytest.mark.thorough
def test_a_notebook_shows_pictures_and_tables_and_says_nothing_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # without it Jupyter warns of where its folders will be
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(fn.__file__).parent.parent))
    pictures, tables = PICTURES.strip().splitlines(), TABLES.strip().splitlines()
    cells = [nbformat.v4.new_code_cell(code) for code in (SETUP, *pictures, *tables)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    setup, *shown = notebook.cells
    assert setup.outputs == []
    for cell, kind in zip(shown, ["image/png"] * len(pictures) + ["text/html"] * len(tables), strict=True):
        (output,) = cell.outputs
        assert output.output_type == "execute_result", cell.source
        assert kind in output.data, cell.source
        if kind == "image/png":
            assert base64.b64decode(output.data[kind]).startswith(b"\x89PNG")

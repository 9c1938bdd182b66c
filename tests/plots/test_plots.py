"""Pictures: what is drawn is read back from the axes and held against the numbers that it shows."""

import functools
import html
import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics as sk
from table import params_of, random

import funcnet as fn
from funcnet.plots import grids

matplotlib = pytest.importorskip("matplotlib")
from matplotlib._pylab_helpers import Gcf  # noqa: E402  (what pyplot would have registered)
from matplotlib.figure import Figure  # noqa: E402

pytestmark = pytest.mark.fast

NET, CE, SE = fn.mlp((2, 4, 3)), fn.CrossEntropy(), fn.SquaredError()
PARAMS, X = params_of(NET), random(0, 12, 2)
Y = jnp.arange(12) % 3
ALONG = (1, 1, 2), (2, None, 1)
HOSTILE = ["$\\alpha$", "_under", "<b>&amp;</b> $5"]


def with_values(params, u, v):
    """PARAMS with the weights of ALONG replaced."""
    first, nothing, second = jax.tree.map(np.array, params)
    first["w"][1, 2], second["b"][1] = u, v
    return first, nothing, second


def history_of(telemetry=2, epochs=3, net=NET):
    optimizer = optax.sgd(0.1)
    state = fn.train_state(optimizer, fn.init(net, jax.random.key(0)), jax.random.key(1))
    options = {"epochs": epochs, "batch_size": 3, "telemetry": telemetry}
    return fn.fit(net, CE, optimizer, state, (X, Y), **options)[1]


@functools.cache
def history():
    with jax.numpy_dtype_promotion("standard"):  # as optax wants it
        return history_of()


@functools.cache
def propagated():
    return jax.jit(fn.backprop)(NET, CE, PARAMS, X, Y)


def cost(*arguments, reduction="mean", **options):
    return float(COST(*arguments, reduction=reduction, **options))


COST = jax.jit(fn.cost, static_argnames="reduction")
PICTURES = {
    "cost surface": lambda ax: fn.plot_cost_surface(NET, CE, PARAMS, X, Y, ALONG, path=[PARAMS] * 2, points=5, ax=ax),
    "gradient flow": lambda ax: fn.plot_gradient_flow(history(), ax=ax),
    "one gradient flow": lambda ax: fn.plot_gradient_flow(flow_of(), ax=ax),
    "weights": lambda ax: fn.plot_weights(NET, PARAMS, (1, 2), ax=ax),
    "decision regions": lambda ax: fn.plot_decision_regions(NET, PARAMS, X, Y, points=5, ax=ax),
    "confusion": lambda ax: fn.plot_confusion(propagated().output, Y, ax=ax),
    "gradient norms": lambda ax: fn.plot_gradient_norms(NET, propagated(), 1.0, ax=ax),
    "curves": lambda ax: history().plot(ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_axes_given_are_drawn_on_and_nothing_global_changes(name):
    before = dict(matplotlib.rcParams)
    ax = Figure().subplots(1, 2)[1]
    assert PICTURES[name](ax) is ax
    own = PICTURES[name](None)
    assert own is not ax
    for axes in (ax, own):
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        axes.figure.savefig(io.BytesIO())
    assert not Gcf.figs
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", PICTURES)
def test_without_matplotlib_it_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot.* needs matplotlib.*pip install -e '.\[plot\]'"):
        PICTURES[name](None)


def written(ax):
    """All text of a figure, as a viewer shows it."""
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        ax.figure.savefig(file := io.StringIO(), format="svg")
    return file.getvalue()


def named_history():
    columns = {name: jnp.ones(2) for name in ("cost", "_cost", *HOSTILE)}
    return fn.History(tuple(columns), columns, 2, 0)


@pytest.mark.parametrize(
    ("names", "draw"),
    [
        (HOSTILE, lambda: fn.plot_confusion(propagated().output, Y, labels=HOSTILE)),
        (HOSTILE, lambda: fn.plot_decision_regions(NET, PARAMS, X, Y, labels=HOSTILE, points=3)),
        (HOSTILE[::2], lambda: fn.plot_decision_regions(NET, PARAMS, X, Y, names=HOSTILE[::2], points=3)),
        ([name.replace("_", " ") for name in ("_cost", *HOSTILE)], lambda: named_history().plot()),
    ],
)
def test_hostile_names_are_shown_as_they_are(names, draw):
    shown = written(draw())
    for name in names:
        assert f">{html.escape(name, quote=False)}<" in shown, name


# ---- the cost surface


@pytest.mark.parametrize(("reduction", "room"), [("mean", 2**22), ("sum", 12 * 4 * 7)])
def test_the_surface_is_the_cost(reduction, room, monkeypatch):
    monkeypatch.setattr(grids, "ROOM", room)  # blocks of 7 points do not divide 5 × 5
    options = {"weights": jnp.arange(12.0), "penalty": fn.L2(0.1), "reduction": reduction}
    span = (-1.0, 2.0), (-3.0, 0.5)
    ax = fn.plot_cost_surface(NET, CE, PARAMS, X, Y, ALONG, span=span, points=5, **options)
    found = np.asarray(ax.collections[0].get_array())
    u, v = (np.linspace(*ends, 5) for ends in span)
    expected = [[cost(NET, CE, with_values(PARAMS, a, b), X, Y, **options) for a in u] for b in v]
    assert np.abs(found - expected).max() <= 1e-12 * np.max(expected)
    assert (ax.get_xlim(), ax.get_ylim()) == span
    corners = ax.collections[0].get_coordinates()  # of the fields, whose middles are the points
    assert np.allclose((corners[:-1, :-1] + corners[1:, 1:]) / 2, np.stack(np.meshgrid(u, v), -1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer 1, w[1, 2]", "layer 2, b[1]")
    assert ax.figure.axes[1].get_ylabel() == "cost J"


def test_the_path_is_that_of_the_two_weights_with_room_around():
    walk = np.array([[0.0, 1.0], [0.5, 2.0], [1.0, 5.0]])
    path = [with_values(params_of(NET), *pair) for pair in walk]
    ax = fn.plot_cost_surface(NET, CE, path[-1], X, Y, ALONG, path=path, points=3)
    line, start, end = ax.get_lines()
    assert np.array_equal(line.get_xydata(), walk)
    assert np.array_equal(start.get_xydata(), walk[:1])
    assert np.array_equal(end.get_xydata(), walk[-1:])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["start", "path, 3 states", "end"]
    assert np.allclose([ax.get_xlim(), ax.get_ylim()], [[0.5 - 2.8, 0.5 + 2.8], [3 - 2.8, 3 + 2.8]])


def test_without_a_path_params_are_in_the_middle():
    ax = fn.plot_cost_surface(NET, CE, PARAMS, X, Y, ALONG, points=3)
    here = PARAMS[0]["w"][1, 2], PARAMS[2]["b"][1]
    assert np.array_equal(ax.get_lines()[0].get_xydata()[0], here)
    middle = np.asarray(ax.collections[0].get_array())[1, 1]
    assert abs(middle - cost(NET, CE, PARAMS, X, Y)) <= 1e-12
    assert np.allclose([np.mean(ax.get_xlim()), np.mean(ax.get_ylim())], here)


def test_layers_are_counted_over_those_with_parameters():
    net = fn.Chain(fn.Tanh(), fn.Dense(2, 3), fn.Residual(fn.Chain(fn.LayerNorm(3), fn.Dense(3, 3))), fn.Dense(3, 1))
    params, y = params_of(net), random(1, 12, 1)
    ax = fn.plot_cost_surface(net, SE, params, X, y, ((3, 2, 0), (4, 1, 0)), span=((0, 1), (2, 3)), points=2)
    found = np.asarray(ax.collections[0].get_array())
    moved = jax.tree.map(lambda leaf: leaf, params)
    moved[2][1]["w"] = params[2][1]["w"].at[2, 0].set(1.0)
    moved[3]["w"] = params[3]["w"].at[1, 0].set(2.0)
    assert abs(found[0, 1] - cost(net, SE, moved, X, y)) <= 1e-12
    with pytest.raises(ValueError, match=r"along\[1\]=\(2, 0, 0\): layer 2, LayerNorm\(3.*, has no matrix w"):
        fn.plot_cost_surface(net, SE, params, X, y, ((3, 2, 0), (2, 0, 0)))


def test_costs_that_overflow_are_grey_and_a_lost_path_is_drawn_as_far_as_it_goes():
    net = fn.Dense(1, 1)
    params = [fn.from_weights(net, [[[w]]], [[b]]) for w, b in ((0.0, 0.0), (1.0, 1.0), (np.nan, np.inf))]
    args = net, SE, params[1], [[1.0]], [[0.5]], ((1, 0, 0), (1, None, 0))
    ax = fn.plot_cost_surface(*args, span=((-1, 1e200), (-1, 1)), points=3)
    found = np.ma.filled(ax.collections[0].get_array(), np.nan)
    assert np.isnan(found[:, 1:]).all()
    assert np.isfinite(found[:, 0]).all()
    ax = fn.plot_cost_surface(*args, path=params, points=3)
    assert np.isfinite([ax.get_xlim(), ax.get_ylim()]).all()
    line, start, end = ax.get_lines()
    assert np.array_equal(line.get_xydata(), [[0, 0], [1, 1]])
    assert (start.get_xydata().tolist(), end.get_xydata().tolist()) == ([[0, 0]], [[1, 1]])
    assert ax.get_legend().get_texts()[1].get_text() == "path, 3 states (1 not finite)"
    ax.figure.savefig(io.BytesIO())


def test_colours_are_logarithmic_over_a_wide_range_only():
    net = fn.Dense(1, 1)
    args = net, SE, fn.from_weights(net, [[[1.0]]]), [[1.0]], [[0.0]], ((1, 0, 0), (1, None, 0))
    scales = [
        type(fn.plot_cost_surface(*args, span=(span, span), points=4).collections[0].norm).__name__
        for span in ((1, 2), (0.1, 2), (0, 2))
    ]
    assert scales == ["Normalize", "LogNorm", "Normalize"]  # a cost of 0 has no logarithm


# ---- gradient flow


@pytest.mark.parametrize("what", ["a", "delta", "gradient", "weight", "gradient_to_weight", "update_to_weight"])
def test_gradient_flow_is_the_telemetry(what):
    ax = fn.plot_gradient_flow(history(), what)
    mesh = ax.collections[0]
    expected = np.stack([history().seen(f"layer {layer}: {what}") for layer in (1, 2)])
    assert np.array_equal(mesh.get_array(), expected)
    corners = mesh.get_coordinates()
    assert np.allclose(corners[0, :, 0], np.arange(7) / 2)  # two looks in each of three epochs
    assert np.allclose(corners[:, 0, 1], [0.5, 1.5, 2.5])
    assert (mesh.norm.vmin, mesh.norm.vmax) == (expected.min(), expected.max())
    assert type(mesh.norm).__name__ == "LogNorm"


def with_telemetry(telemetry, epochs=1, looks=2):
    return fn.History(("cost",), {"cost": jnp.ones(3)}, epochs, 0, "", telemetry, looks)


def test_layers_stand_in_their_order_however_many():
    layers = {f"layer {n}: delta": jnp.full(2, float(n)) for n in range(1, 12)}
    drawn = fn.plot_gradient_flow(with_telemetry(dict(sorted(layers.items())))).collections[0]
    assert np.array_equal(drawn.get_array()[:, 0], np.arange(1, 12))


def test_shares_are_linear_and_where_there_are_none_it_is_grey():
    mesh = (ax := fn.plot_gradient_flow(history(), "saturated")).collections[0]
    found = np.ma.filled(mesh.get_array(), np.nan)
    assert np.array_equal(found, np.stack([history().seen(f"layer {n}: saturated") for n in (1, 2)]), equal_nan=True)
    assert np.isnan(found[1]).all()
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 1)
    assert ax.figure.axes[1].get_ylabel() == "share of saturated entries (grey: none)"


def test_an_error_signal_of_zero_is_grey():
    telemetry = {"layer 1: delta": jnp.array([0.0, np.inf, np.nan, 1.0, 2.0, 3.0])}
    ax = fn.plot_gradient_flow(with_telemetry(telemetry, epochs=3))
    found = np.ma.filled(ax.collections[0].get_array(), np.nan)
    assert np.isnan(found[0, :3]).all()
    assert found[0, 3:].tolist() == [1, 2, 3]
    assert "grey: 0 or not finite" in ax.figure.axes[1].get_ylabel()
    ax.figure.savefig(io.BytesIO())


def flow_of(net=NET, x=X, y=Y, loss=CE):
    params = params_of(net)
    return fn.gradient_flow(net, jax.jit(fn.backprop)(net, loss, params, x, y), params)


@pytest.mark.parametrize("what", ["a", "delta", "gradient", "weight", "gradient_to_weight", "dead"])
def test_a_flow_is_drawn_before_any_training(what):
    flow = flow_of()
    ax = fn.plot_gradient_flow(flow, what)
    values, numbers = ax.get_lines()[0].get_data()
    assert np.array_equal(values, [float(flow[f"layer {n}"][what]) for n in (1, 2)], equal_nan=True)
    assert numbers.tolist() == [1, 2]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["layer 1", "layer 2"]
    assert ax.get_xscale() == ("linear" if what == "dead" else "log")
    assert "rms" in ax.get_xlabel() or what == "dead"


def test_a_flows_layers_bear_their_names_and_what_has_no_place_is_grey():
    names = [f"layer {n}, $part$ {n}" for n in range(1, 60)]
    flow = {name: {"delta": jnp.asarray(0.5**n), "dead": jnp.asarray(jnp.nan)} for n, name in enumerate(names)}
    flow[names[2]]["delta"] = jnp.asarray(0.0)
    ax = fn.plot_gradient_flow(flow)
    assert np.isnan(ax.get_lines()[0].get_xdata()).nonzero()[0].tolist() == [2]
    assert ax.get_xlabel().endswith("(grey: 0 or not finite)")
    (band,) = ax.patches
    assert band.get_y() < 3 < band.get_y() + band.get_height()
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(shown) == 24
    assert (shown[0], shown[-1]) == (r"layer 1, \$part\$ 1", r"layer 59, \$part\$ 59")
    assert "$part$ 59" in written(ax)
    assert fn.plot_gradient_flow(flow, "dead").get_xlabel() == "share of dead units (grey: none)"


# ---- weights


def test_weights_are_framed_images():
    net = fn.Chain(fn.Dense(6, 5), fn.Tanh(), fn.Dense(5, 1))
    params = params_of(net)
    ax = fn.plot_weights(net, params, (2, 3))
    w, found = np.asarray(params[0]["w"]), np.ma.filled(ax.images[0].get_array(), np.nan)
    assert found.shape == (1 + 3 * 3, 1 + 2 * 4)  # three rows of two
    for unit in range(5):
        top, left = 1 + unit // 2 * 3, 1 + unit % 2 * 4
        assert np.array_equal(found[top : top + 2, left : left + 3], w[:, unit].reshape(2, 3))
        assert np.isnan(found[top - 1 : top + 3, left - 1]).all()
    assert np.isfinite(found).sum() == w.size
    assert ax.images[0].get_clim() == (-abs(w).max(), abs(w).max())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "2", "4"]
    assert ax.get_xlabel() == "2 × 3 weights into each unit of layer 1"


def test_a_square_is_found_and_wide_layers_are_cut():
    net = fn.Chain(fn.LayerNorm(4), fn.Dense(4, 9))
    params = params_of(net)
    params[1]["w"] = params[1]["w"].at[0, 0].set(jnp.nan)
    ax = fn.plot_weights(net, params, most=4)
    found = np.ma.filled(ax.images[0].get_array(), np.nan)
    assert found.shape == (7, 7)
    assert np.isfinite(found).sum() == 15
    assert ax.get_xlabel() == "2 × 2 weights into each unit of layer 2\n(the first 4 of 9 units)"


# ---- decision regions


def test_regions_are_what_the_network_predicts():
    ax = fn.plot_decision_regions(NET, PARAMS, X, Y, points=9)
    (image,) = ax.images
    assert image.origin == "lower"
    left, right, low, high = image.get_extent()
    u, v = (a + (np.arange(9) + 0.5) * (b - a) / 9 for a, b in ((left, right), (low, high)))
    grid = jnp.asarray(np.stack(np.meshgrid(u, v), -1).reshape(-1, 2))
    assert np.array_equal(image.get_array(), fn.predict(NET, PARAMS, grid).argmax(-1).reshape(9, 9))
    assert len(np.unique(image.get_array())) > 1
    wide = np.ptp(X, axis=0)
    assert np.allclose([u[0], v[0]], X.min(0) - 0.1 * wide)
    assert np.allclose([u[-1], v[-1]], X.max(0) + 0.1 * wide)
    for number, drawn in enumerate(ax.collections):
        assert np.array_equal(drawn.get_offsets(), X[number == Y])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]
    same = fn.plot_decision_regions(NET, PARAMS, X, jax.nn.one_hot(Y, 3, dtype=X.dtype), points=9)
    assert all(np.array_equal(a.get_offsets(), b.get_offsets()) for a, b in zip(ax.collections, same.collections))


@pytest.mark.parametrize(("threshold", "ones"), [(0.0, 2), (0.5, 1)])
def test_one_output_is_held_against_the_threshold(threshold, ones):
    net = fn.Dense(2, 1)
    params = fn.from_weights(net, [[[1.0], [0.0]]])
    x, y = jnp.array([[-1.0, -1.0], [1.0, 1.0]]), jnp.array([[False], [True]])
    ax = fn.plot_decision_regions(net, params, x, y, threshold=threshold, points=4)  # at -1.2, -0.4, 0.4, 1.2
    assert np.asarray(ax.images[0].get_array()).astype(int).sum(1).tolist() == [ones] * 4
    assert [len(drawn.get_offsets()) for drawn in ax.collections] == [1, 1]


def test_many_classes_and_outputs_that_are_nan():
    @fn.spec
    class Root:
        elementwise = True

        def init(self, key):
            return ()

        def forward(self, params, x, key=None):
            return jnp.sqrt(x), x

        def backward(self, params, tape, delta):
            return delta, delta

        def gradient(self, tape, deltas):
            return ()

    net = fn.Chain(fn.Dense(2, 12), Root())
    params = fn.from_weights(net, [jnp.ones((2, 12))])
    ax = fn.plot_decision_regions(net, params, jnp.abs(X), jnp.arange(12), points=5)
    left, right, low, high = ax.images[0].get_extent()
    u, v = (a + (np.arange(5) + 0.5) * (b - a) / 5 for a, b in ((left, right), (low, high)))
    below = np.add.outer(v, u) < 0
    assert below.any()
    assert np.array_equal(np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)), below)
    assert len(ax.get_legend().get_texts()) == 12
    ax.figure.savefig(io.BytesIO())


# ---- confusion


def counts(ax, classes):
    return np.array([int(text.get_text()) for text in ax.texts]).reshape(classes, classes)


def test_the_table_is_that_of_scikit_learn():
    outputs, y = random(3, 60, 4), np.random.default_rng(1).integers(0, 4, 60)
    read = np.asarray(outputs.argmax(-1))
    expected = sk.confusion_matrix(y, read)
    assert (expected != expected.T).any()
    for predicted in (outputs, read):
        ax = fn.plot_confusion(predicted, y)
        assert np.array_equal(counts(ax, 4), expected)
        assert np.allclose(ax.images[0].get_array(), expected / expected.sum(1, keepdims=True))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("class read", "true class")
    positions = fn.plot_confusion(
        outputs.reshape(20, 3, 4), jax.nn.one_hot(y, 4, dtype=outputs.dtype).reshape(20, 3, 4)
    )
    assert np.array_equal(counts(positions, 4), expected)


def test_one_logit_a_class_without_examples_and_labels():
    ax = fn.plot_confusion(jnp.array([[0.1], [0.7], [-3.0]]), jnp.array([[0.0], [1.0], [0.0]]))
    assert counts(ax, 2).tolist() == [[1, 1], [0, 1]]
    ax = fn.plot_confusion(jnp.array([[0.1], [0.7], [0.2]]), [False, True, False], threshold=0.5)
    assert counts(ax, 2).tolist() == [[2, 0], [0, 1]]
    ax = fn.plot_confusion([0, 2], [0, 0], labels=["a", "b", "c", "d"])
    assert counts(ax, 4).tolist() == [[1, 0, 1, 0], *[[0] * 4] * 3]
    assert np.isnan(np.ma.filled(ax.images[0].get_array(), np.nan)[1:]).all()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b", "c", "d"]


def test_many_classes_have_colours_only():
    ax = fn.plot_confusion(np.arange(100), np.arange(100))
    assert not ax.texts
    assert np.array_equal(ax.images[0].get_array(), np.eye(100))
    assert len(ax.get_yticklabels()) <= 30


# ---- norms of the examples' gradients


def test_norms_are_counted():
    weights = np.where(np.arange(12) == 3, 0.0, 1.0)
    bp = jax.jit(fn.backprop)(NET, CE, PARAMS, X, Y, weights=weights)
    norms = np.sqrt(fn.example_square_norms(NET, bp))
    bound = float(np.sort(norms)[-4]) * 1.0001
    ax = fn.plot_gradient_norms(NET, bp, max_norm=bound)
    bars = ax.patches
    edges = np.array([bar.get_x() for bar in bars] + [bars[-1].get_x() + bars[-1].get_width()])
    shown = np.delete(norms, 3)
    assert np.allclose([edges[0], edges[-1]], [shown.min(), shown.max()])
    edges[[0, -1]] = 0, np.inf
    assert np.array_equal([bar.get_height() for bar in bars], np.histogram(shown, edges)[0])
    assert sum(bar.get_height() for bar in bars) == 11
    assert ax.get_xscale() == "log"
    middle, line = ax.get_lines()
    assert middle.get_xdata()[0] == np.median(shown)
    assert line.get_xdata()[0] == bound
    assert ax.get_legend().get_texts()[2].get_text().endswith(": 25 % are longer")  # three of twelve
    assert ax.get_xlabel() == "norm of an example's gradient (1 more of 0)"


def test_norms_all_alike_and_not_finite():
    net = fn.Dense(1, 1, bias=False)
    params = fn.from_weights(net, [[[1.0]]])
    x = np.array([[1.0], [1.0], [1e200]])
    bp = jax.jit(fn.backprop)(net, SE, params, x, np.zeros((3, 1)))
    ax = fn.plot_gradient_norms(net, bp)
    assert sum(bar.get_height() for bar in ax.patches) == 2
    assert ax.get_xlabel() == "norm of an example's gradient (1 more not finite)"
    assert len(ax.get_lines()) == 1


# ---- bad input


def surface(**changed):
    options = {"along": ALONG, "points": 3} | changed
    return fn.plot_cost_surface(NET, CE, PARAMS, X, Y, **options)


THREE = fn.mlp((3, 4, 2))
ROWS = {
    "a layer that is not there": (lambda: surface(along=((3, 0, 0), (1, 0, 0))), ValueError,
        ["along[0]=(3, 0, 0)", "no layer 3", "1: Dense(2, 4", "2: Dense(4, 3"]),
    "a weight that is not there": (lambda: surface(along=((1, 0, 0), (2, 4, 0))), ValueError,
        ["along[1]=(2, 4, 0)", "from is 0 … 3 (or None)", "to is 0 … 2"]),
    "one weight": (lambda: surface(along=(1, 0, 0)), ValueError, ["along", "two addresses", "(1, 0, 0)"]),
    "twice the same weight": (lambda: surface(along=((1, 0, 0), (1, 0, 0))), ValueError, ["two different", "twice"]),
    "a path of another network": (lambda: surface(path=[PARAMS, params_of(THREE)]), ValueError,
        ["path[1]: params: layer 1, w has shape (3, 4)", "(2, 4)"]),
    "a path that is one state": (lambda: surface(path=PARAMS[0]), ValueError, ["path", "list of parameters", "dict"]),
    "a path without states": (lambda: surface(path=[]), ValueError, ["path", "list of parameters"]),
    "a span turned round": (lambda: surface(span=((1, 0), (0, 1))), ValueError, ["span", "(lowest, highest)"]),
    "one point": (lambda: surface(points=1), ValueError, ["points", "2 … 2000", "got 1"]),
    "lost parameters": (lambda: fn.plot_cost_surface(NET, CE, with_values(PARAMS, jnp.nan, 0.0), X, Y, ALONG),
        ValueError, ["params, layer 1, w: not all finite", "earlier state"]),
    "a cost that is nowhere finite": (lambda: surface(span=((1e308, 1.1e308), (1e308, 1.1e308)), penalty=fn.L2(1.0)),
        ValueError, ["not finite anywhere", "span"]),
    "a history without telemetry": (lambda: fn.plot_gradient_flow(named_history()), ValueError,
        ["no telemetry", "telemetry=10"]),
    "a history without epochs": (lambda: fn.plot_gradient_flow(history_of(epochs=0)), ValueError, ["no epoch"]),
    "an unknown quantity": (lambda: fn.plot_gradient_flow(history(), "deltas"), ValueError,
        ["'deltas'", "there is a, dead, delta", "update_to_weight"]),
    "no history": (lambda: fn.plot_gradient_flow(PARAMS), TypeError, ["gradient_flow", "History", "tuple"]),
    "a quantity that a flow has not": (lambda: fn.plot_gradient_flow(flow_of(), "update_to_weight"), ValueError,
        ["'update_to_weight'", "there is a, dead, delta"]),
    "a flow without layers": (lambda: fn.plot_gradient_flow({}), ValueError, ["gradient_flow", "no layer"]),
    "a layer for a flow": (lambda: fn.plot_gradient_flow(flow_of()["layer 1"]), ValueError, ["{quantity: scalar}"]),
    "flows of several batches": (lambda: fn.plot_gradient_flow({"layer 1": {"delta": jnp.ones(3)}}), ValueError,
        ["one number for each layer", "(3,)", "Draw one"]),
    "a shape of other pixels": (lambda: fn.plot_weights(NET, PARAMS, (28, 28)), ValueError,
        ["layer 1 takes 2 inputs", "rows × columns = 2", "(28, 28)"]),
    "no square": (lambda: fn.plot_weights(NET, PARAMS), ValueError, ["2 inputs", "no square", "shape=(rows, columns)"]),
    "no units": (lambda: fn.plot_weights(NET, PARAMS, (1, 2), most=0), ValueError, ["most", "1 or more", "got 0"]),
    "no weights": (lambda: fn.plot_weights(fn.Tanh(), ()), ValueError, ["Tanh() has no weight matrix"]),
    "weights of another network": (lambda: fn.plot_weights(THREE, PARAMS, (1, 3)), ValueError,
        ["layer 1, w has shape (2, 4)", "(3, 4)"]),
    "regions over three inputs": (lambda: fn.plot_decision_regions(THREE, params_of(THREE), random(0, 5, 3), Y[:5]),
        ValueError, ["(m, 2)", "(5, 3)", "over two inputs"]),
    "regions of a network of three inputs": (lambda: fn.plot_decision_regions(THREE, params_of(THREE), X, Y),
        ValueError, ["Dense(3, 4", "3 features", "(12, 2)"]),
    "regions of unequal lengths": (lambda: fn.plot_decision_regions(NET, PARAMS, X, Y[:5]), ValueError,
        ["x has 12", "y has 5", "same split"]),
    "regions of a class too many": (lambda: fn.plot_decision_regions(NET, PARAMS, X, Y + 1), ValueError,
        ["class 3", "0 … 2"]),
    "three names": (lambda: fn.plot_decision_regions(NET, PARAMS, X, Y, names="abc"), ValueError,
        ["names", "two inputs"]),
    "labels too few": (lambda: fn.plot_decision_regions(NET, PARAMS, X, Y, labels=["a", "b"]), ValueError,
        ["labels", "all 3 classes", "['a', 'b']"]),
    "confusion of unequal lengths": (lambda: fn.plot_confusion(propagated().output, Y[:5]), ValueError,
        ["predicted has 12", "y has 5", "same split"]),
    "confusion of nothing": (lambda: fn.plot_confusion([], jnp.zeros(0, int)), ValueError, ["predicted"]),
    "a class too many": (lambda: fn.plot_confusion(propagated().output, Y + 1), ValueError, ["class 3", "3", "0 … 2"]),
    "a class below 0": (lambda: fn.plot_confusion(Y, Y - 1), ValueError, ["y must hold classes of 0 or more, got -1"]),
    "classes as floats": (lambda: fn.plot_confusion(Y.astype(float), Y), ValueError, ["predicted.astype(int)"]),
    "outputs that are nan": (lambda: fn.plot_confusion(propagated().output.at[2, 1].set(jnp.nan), Y), ValueError,
        ["predicted[2, 1] is nan"]),
    "a label for too few": (lambda: fn.plot_confusion(propagated().output, Y, labels=list("abcd")), ValueError,
        ["all 3 classes"]),
    "one text for labels": (lambda: fn.plot_confusion(Y, Y, labels="abc"), ValueError, ["labels", "'abc'"]),
    "a text for a bound": (lambda: fn.plot_gradient_norms(NET, propagated(), "a"), ValueError,
        ["max_norm", "above 0", "'a'"]),
    "labels by number": (lambda: fn.plot_confusion(Y, Y, labels={0: "a"}), ValueError, ["labels", "list"]),
    "a number for labels": (lambda: fn.plot_confusion(Y, Y, labels=3), ValueError, ["labels", "list", "3"]),
    "a bound of zero": (lambda: fn.plot_gradient_norms(NET, propagated(), 0.0), ValueError,
        ["max_norm", "above 0", "0.0"]),
    "no Backprop": (lambda: fn.plot_gradient_norms(NET, PARAMS), TypeError, ["Backprop"]),
    "no gradient at all": (lambda: fn.plot_gradient_norms(
        NET, fn.backprop(NET, CE, PARAMS, X, Y, weights=jnp.zeros(12))), ValueError, ["none of the 12"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_bad_input(name):
    call, kind, fragments = ROWS[name]
    with pytest.raises(kind) as error:
        call()
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_the_history_of_many_trainings_is_refused():
    many = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), history())
    with pytest.raises(ValueError, match=r"many trainings. Draw that of one: many\[0\]\[1\]"):
        fn.plot_gradient_flow(many)
    one = jax.tree.map(lambda leaf: leaf[1], many)
    assert fn.plot_gradient_flow(one).collections[0].get_array().shape == (2, 6)

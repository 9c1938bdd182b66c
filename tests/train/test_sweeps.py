"""Many trainings side by side: each is the fit one would run alone, labelled and found again."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import cost, disagreement, predict, random

import funcnet as fn

NET, LOSS = fn.mlp((3, 8, 4)), fn.CrossEntropy()
ADAM = optax.inject_hyperparams(optax.adam)(learning_rate=1e-2)
X = random(1, 50, 3)
LABELS = jnp.asarray(np.random.default_rng(2).integers(0, 4, 50))
DATA, HELD = (X[:30], LABELS[:30]), (X[30:], LABELS[30:])
RATES, STRENGTHS, SEEDS = (0.003, 0.1), (fn.L2(0.0), fn.L2(0.03)), (0, 5)
STOPPING = fn.EarlyStopping(patience=3)
OPTIONS = {"epochs": 30, "batch_size": 8, "validation": HELD, "metrics": [fn.Accuracy()], "early_stopping": STOPPING}


@pytest.fixture(autouse=True)
def _as_optax_wants_it():
    with jax.numpy_dtype_promotion("standard"):
        yield


def fit_many(optimizer=ADAM, data=DATA, net=NET, **options):
    return fn.fit_many(net, LOSS, optimizer, data, **OPTIONS | options)


def alone(seed, rate=0.01, penalty=None, net=NET, optimizer=ADAM, data=DATA, **options):
    """The single fit that a lane stands for, as the docstring of `fit_many` writes it."""
    weights, order = jax.random.split(jax.random.key(seed))
    state = fn.train_state(optimizer, fn.init(net, weights), order)
    if rate is not None:
        state.opt_state.hyperparams["learning_rate"] = jnp.asarray(rate, X.dtype)
    return fn.fit(net, LOSS, optimizer, state, data, penalty=penalty, **OPTIONS | options)


@pytest.fixture(scope="module")
def many():
    with jax.numpy_dtype_promotion("standard"):
        return fit_many(seeds=SEEDS, sweep={"learning_rate": RATES, "penalty": STRENGTHS})


@pytest.mark.fast
def test_every_lane_is_its_single_fit(many):
    """In float64 to 1e-12: a batch of small products is summed in another order than one."""
    expected = [(rate, penalty, seed) for rate in RATES for penalty in STRENGTHS for seed in SEEDS]
    assert [tuple(lane.values()) for lane in many.lanes] == expected
    assert list(many.lanes[0]) == ["learning_rate", "penalty", "seed"]
    ends = set()
    for number, (rate, penalty, seed) in enumerate(expected):
        state, history = many[number]
        same, record = alone(seed, rate, penalty)
        assert disagreement(state.params, same.params) <= 1e-12
        assert disagreement(state.opt_state, same.opt_state) <= 1e-12
        assert int(state.step) == int(same.step)
        assert (jax.random.key_data(state.key) == jax.random.key_data(same.key)).all()
        assert history.names == record.names
        for name in record.names:
            np.testing.assert_allclose(history[name], record[name], rtol=1e-12, err_msg=name)
        assert (int(history.epochs), int(history.best_epoch)) == (int(record.epochs), int(record.best_epoch))
        assert history.stopped == many.stopped[number] == record.stopped
        ends.add(int(history.epochs))
    assert len(many) == len(expected) == 8
    assert len(ends) > 2
    assert any("has not improved" in reason for reason in many.stopped)


@pytest.mark.fast
def test_lanes_of_a_convolution_are_their_single_fits():
    net = fn.Chain(fn.RandomShift(1), fn.Conv(1, 2, (3, 3)), fn.ReLU(), fn.Flatten(), fn.Dense(32, 4))
    images = random(8, 30, 4, 4, 1), LABELS[:30]
    options = {"net": net, "data": images, "validation": (random(9, 6, 4, 4, 1), LABELS[30:36]), "metrics": None}
    many = fit_many(seeds=(0, 1), sweep={"learning_rate": RATES}, **options)
    ends = set()
    for number, lane in enumerate(many.lanes):
        state, history = many[number]
        same, record = alone(lane["seed"], lane["learning_rate"], **options)
        assert disagreement(state.params, same.params) <= 1e-12
        np.testing.assert_allclose(history["validation_cost"], record["validation_cost"], rtol=1e-12)
        ends.add(int(history.epochs))
    assert len(ends) > 1


@pytest.mark.fast
def test_what_is_swept_and_what_is_not(many):
    """Lanes differ by their rate and by their penalty."""
    params = [np.asarray(many[lane][0].params[0]["w"]) for lane in range(8)]
    assert all(np.abs(params[i] - params[j]).max() > 1e-6 for i in range(8) for j in range(i))


BARE = {"early_stopping": None, "validation": None, "metrics": None, "epochs": 4}


def test_one_lane_without_a_sweep_and_a_penalty_for_all():
    optimizer = optax.adam(0.1)
    one = fit_many(optimizer, seeds=[5], penalty=fn.L2(0.03), **BARE)
    assert one.lanes == ({"seed": 5},)
    state, _ = alone(5, None, fn.L2(0.03), optimizer=optimizer, **BARE)
    assert disagreement(one[0][0].params, state.params) <= 1e-12


def test_dropout_weights_parts_and_what_is_not_trainable():
    net, options = fn.Chain(fn.Dense(3, 8), fn.Dropout(0.4), fn.Dense(8, 4)), {
        "weights": np.linspace(0, 1, 30), "trainable": (True, True, False), "accumulate": 2,
        "compute_dtype": "bfloat16", **BARE,
    }  # fmt: skip
    found = fit_many(net=net, seeds=SEEDS, **options)
    for number, seed in enumerate(SEEDS):
        state, history = alone(seed, net=net, **options)
        assert disagreement(found[number][0].params, state.params) <= 1e-2  # bfloat16
        np.testing.assert_allclose(found[number][1]["cost"], history["cost"], rtol=1e-2)
        first = fn.init(net, jax.random.split(jax.random.key(seed))[0])
        assert np.array_equal(found[number][0].params[2]["w"], first[2]["w"])


@pytest.mark.fast
def test_the_best_lane(many):
    for column, choose in (("validation_cost", np.argmin), ("cost", np.argmin), ("validation_accuracy", np.argmax)):
        values = [many[lane][1][column][int(many[lane][1].best_epoch) - 1] for lane in range(8)]
        assert np.array_equal(many.values(column), values)
        assert many.best(column) == choose(values)
    assert many.best() == many.best("validation_cost")
    assert np.array_equal(many.values(), many.values("validation_cost"))
    for lane, value in enumerate(many.values()):
        assert np.isclose(cost(NET, LOSS, many[lane][0].params, *HELD), value, rtol=1e-12)
    _, history = many[many.best()]
    assert history["validation_cost"].min() == many.values()[many.best()]


def test_without_early_stopping_the_last_epoch_counts():
    twice = fit_many(seeds=(5, 5), **BARE)
    assert np.array_equal(twice.values(), [twice[0][1]["cost"][3], twice[1][1]["cost"][3]])
    assert np.array_equal(*np.asarray(twice.states.params[0]["w"]))  # two of the same are the same
    assert np.isnan(fit_many(seeds=(5, 5), **BARE | {"epochs": 0}).values()).all()


def test_states_are_ready_for_vmap(many):
    outputs = jax.jit(jax.vmap(lambda params: fn.predict(NET, params, X)))(many.states.params)
    assert outputs.shape == (8, 50, 4)
    assert np.allclose(np.asarray(outputs)[3], predict(NET, many[3][0].params, X), rtol=1e-12)


def test_numbers_below_zero_count_from_the_end(many):
    assert np.array_equal(many[-1][1]["cost"], many[7][1]["cost"])
    for lane in (8, -9):
        with pytest.raises(IndexError, match="there are 8"):
            many[lane]
    assert len(list(many)) == 8


def test_a_table_over_two_of_three(many):
    (rows, row_labels), (columns, column_labels), means = many.grid("cost", "learning_rate", "penalty")
    assert (rows, row_labels) == ("learning_rate", ["0.003", "0.1"])
    assert (columns, column_labels) == ("penalty", ["L2(0.0)", "L2(0.03)"])
    assert np.allclose(means, many.values("cost").reshape(2, 2, 2).mean(2), rtol=1e-14)
    assert np.array_equal(many.grid("cost")[2], means)
    _, (_, seeds), by_seed = many.grid(rows="penalty", columns="seed")
    assert seeds == ["0", "5"]
    assert np.allclose(by_seed, many.values().reshape(2, 2, 2).mean(0), rtol=1e-14)
    with pytest.raises(ValueError, match="'rate' is not among what was varied: learning_rate, penalty, seed"):
        many.grid(rows="rate")
    with pytest.raises(KeyError, match="there are cost, validation_cost"):
        many.grid("loss")


def made_up(lanes, costs, epochs):
    """Trainings with these costs in their one epoch, without anything trained."""
    history = fn.History(("cost",), {"cost": jnp.array(costs)[:, None]}, jnp.array(epochs), jnp.zeros(len(lanes), int))
    return fn.Trainings(tuple(lanes), None, history, ("",) * len(lanes), tuple(n == 0 for n in epochs), ())


def test_large_seeds_stay_apart():
    lanes = [{"rate": rate, "seed": seed} for rate in (0.1, 0.2) for seed in (12345671, 12345672)]
    found = made_up(lanes, [1.0, 2.0, 3.0, 4.0], [1] * 4)
    assert found.grid(columns="seed")[1][1] == ["12345671", "12345672"]
    assert "12345672" in repr(found)


def test_the_table_as_text_has_the_best_first(many):
    lines = repr(many).splitlines()
    assert lines[0].split() == ["lane", "learning_rate", "penalty", "seed", *many.history.names]
    assert [int(line.split()[0]) for line in lines[1:]] == np.argsort(many.values()).tolist()
    assert lines[1].split()[5] == f"{many.values().min():.5g}"


def test_the_table_as_a_picture(many, tmp_path):
    for column in (None, "validation_accuracy"):
        axes = many.plot(column, rows="learning_rate", columns="penalty")
        assert (axes.get_ylabel(), axes.get_xlabel()) == ("learning rate", "penalty")
        assert [label.get_text() for label in axes.get_xticklabels()] == ["L2(0.0)", "L2(0.03)"]
        assert len(axes.texts) == 4
        axes.figure.savefig(tmp_path / "grid.png")
    means = many.grid("validation_accuracy", "learning_rate", "penalty")[2]
    assert [float(text.get_text()) for text in axes.texts] == pytest.approx(means.ravel(), rel=1e-3)


STEEP = optax.inject_hyperparams(lambda learning_rate: optax.chain(optax.sgd(learning_rate), optax.scale(1e9)))(1e-10)


@pytest.mark.fast
def test_a_lane_that_stops_being_finite_is_named_as_by_fit_and_harms_no_other(tmp_path):
    with pytest.warns(RuntimeWarning, match="1 of 2 trainings stopped being finite"):
        found = fit_many(STEEP, sweep={"learning_rate": [1e-10, 1e308]}, **BARE)
    with pytest.warns(RuntimeWarning, match="is not finite"):
        bad, record = alone(0, 1e308, optimizer=STEEP, **BARE)
    good, _ = alone(0, 1e-10, optimizer=STEEP, **BARE)
    assert found.stopped == ("", record.stopped)
    assert "at step" in record.stopped
    assert disagreement(found[0][0].params, good.params) <= 1e-12
    assert disagreement(found[1][0].params, bad.params) <= 1e-12
    assert int(found[1][0].step) == int(bad.step)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.states.params))
    values = found.values()
    if int(record.epochs) == 0:
        assert np.isnan(values[1])
    assert found.best() == 0
    assert repr(found).splitlines()[1].split()[0] == "0"
    means = found.grid()[2]
    assert means.shape == (2, 1)
    assert np.isnan(means[1, 0]) == np.isnan(values[1])
    found.plot().figure.savefig(tmp_path / "grid.png")


def test_if_none_is_finite_there_is_no_best():
    with pytest.warns(RuntimeWarning, match="2 of 2"):
        found = fit_many(STEEP, sweep={"learning_rate": [1e307, 1e308]}, **BARE)
    assert np.isnan(found.values()).all()
    with pytest.raises(ValueError, match="none has a value of cost. See `stopped`"):
        found.best()
    assert "nan" in repr(found)


def test_seeds_are_averaged_over_what_did_not_fail():
    lanes = [{"rate": rate, "more": more, "seed": seed} for rate in (1, 2) for more in (0, 1) for seed in (0, 1)]
    found = made_up(lanes, [1.0, 3.0, 2.0, 7.0, 5.0, np.nan, np.nan, np.nan], [1, 1, 1, 1, 1, 0, 0, 0])
    assert np.array_equal(found.grid()[2], [[2.0, 4.5], [5.0, np.nan]], equal_nan=True)
    assert found.best() == 0


def test_progress_is_one_line_with_medians(capsys):
    options = {"seeds": (0, 1, 2), "early_stopping": None, "metrics": None, "epochs": 40}
    fit_many(**options)
    assert capsys.readouterr().err == ""
    found = fit_many(**options, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert 5 <= len(lines) <= 25
    median = np.median([found[lane][1]["cost"][-1] for lane in range(3)])
    assert lines[-1].startswith(f"epoch 40/40  cost {median:.4g}  validation_cost ")


SCHEDULED = optax.inject_hyperparams(optax.adam)(learning_rate=optax.constant_schedule(0.1))


@pytest.mark.parametrize(
    ("options", "kind", "fragments"),
    [
        ({"sweep": {"rate": [0.1]}}, ValueError, ["'rate' cannot be swept", "penalty,", "learning_rate"]),
        ({"sweep": {"learning_rate": [0.1]}, "optimizer": optax.adam(0.1)}, ValueError, ["inject_hyperparams"]),
        ({"sweep": {"learning_rate": [0.1]}, "optimizer": SCHEDULED}, ValueError, ["cannot be swept", "schedule"]),
        ({"sweep": {"learning_rate": []}}, ValueError, ["no values for learning_rate"]),
        ({"sweep": {"learning_rate": 0.1}}, TypeError, ["several values for learning_rate", "[0.1]"]),
        ({"sweep": {"seed": [0, 1]}}, ValueError, ["seeds=(0, 1, 2)"]),
        ({"seeds": ()}, ValueError, ["no values for seed"]),
        ({"seeds": 3}, TypeError, ["several values for seed", "[3]"]),
        ({"sweep": {"penalty": [fn.L1(0.1), fn.L2(0.1)]}}, ValueError, ["of one kind", "L1", "L2"]),
        ({"sweep": {"penalty": [fn.L2(0.1), None]}}, ValueError, ["of one kind"]),
        ({"sweep": {"penalty": [0.1, 0.2]}}, TypeError, ["penalty", "L2(1e-4)"]),
        ({"metrics": ["accuracy"]}, TypeError, ["metrics", "Accuracy()"]),
        ({"epochs": -1}, ValueError, ["epochs", "-1"]),
        ({"batch_size": 31}, ValueError, ["1 to 30"]),
        ({"optimizer": "adam"}, TypeError, ["optimizer", "'adam'"]),
        ({"net": "net"}, TypeError, ["net: expected a layer"]),
        ({"validation": None}, ValueError, ["validation_cost", "there are cost"]),
        ({"checkpoint": "folder"}, TypeError, ["checkpoint: expected Checkpoint"]),
        ({"data": (np.asarray(X[:30]).view(np.memmap), LABELS[:30])}, ValueError, ["on the host", "numpy.asarray"]),
        ({"compute_dtype": "float16"}, ValueError, ["compute_dtype", "float16"]),
    ],
)
def test_bad_input(options, kind, fragments):
    with pytest.raises(kind) as error:
        fit_many(**options)
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_inside_jit_it_is_refused():
    with pytest.raises(ValueError, match="Inside jit or vmap use fn.fit"):
        jax.jit(lambda x: fit_many(data=(x, DATA[1])).values())(DATA[0])


@pytest.mark.fast
@pytest.mark.parametrize("first", [0, 0.0, jnp.asarray(0)], ids=repr)
def test_a_number_that_began_as_an_integer_is_swept_over_fractions(first):
    """weight_decay=0 swept over [0, 0.1, 10] trained at [0, 0, 10]."""
    decays, build = [0, 0.1, 10], optax.inject_hyperparams(optax.adamw)
    many = fit_many(build(1e-2, weight_decay=first), sweep={"weight_decay": decays}, seeds=(3,))
    for number, decay in enumerate(decays):
        expected, _ = alone(3, rate=None, optimizer=build(1e-2, weight_decay=float(decay)))
        assert disagreement(many[number][0].params, expected.params) <= 1e-12

"""One right call of every public function and constructor, small and cheap: what `wrong_arguments.py` starts from.

`CALLS` holds for each name what makes (function, arguments by name). The kind of an argument, which says what may
stand there, follows from its name; `OWN` has those of single functions.
"""

import functools
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

import funcnet as fn

NET, DEEP = fn.mlp((3, 4, 2)), fn.mlp((3, 4, 1))
DROPS = fn.Chain(fn.Dense(3, 4), fn.Dropout(0.5), fn.Dense(4, 2))
CHAIN = fn.mlp((2, 2, 1), fn.Sigmoid())
PLANE = fn.mlp((2, 3, 2))
TEXTS = fn.Chain(fn.Embedding(5, 4), fn.GRU(4, 4), fn.Dense(4, 5))
SQUARES, CLASSES, ANSWERS = fn.SquaredError(), fn.CrossEntropy(), fn.BinaryCrossEntropy()
SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
LABELS = np.array([0, 1, 0, 1, 1, 0])


def array(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.cache
def params(net=NET):
    return fn.init(net, jax.random.key(0))


@functools.cache
def batch(net=NET):
    n_in, n_out = net.layers[0].n_in, net.layers[-1].n_out
    return {"net": net, "loss": SQUARES, "params": params(net), "x": array(1, 6, n_in), "y": array(2, 6, n_out)}


@functools.cache
def state():
    return fn.train_state(SGD, params(), jax.random.key(0))


@functools.cache
def backprop():
    return fn.backprop(**batch())


@functools.cache
def histories():
    data = batch()["x"], batch()["y"]
    options = {"epochs": 2, "batch_size": 3, "validation": data, "telemetry": 1}
    _, history = fn.fit(NET, SQUARES, SGD, state(), data, **options)
    del options["telemetry"]
    many = fn.fit_many(NET, SQUARES, SGD, data, sweep={"learning_rate": [0.1, 0.2]}, seeds=(0, 1), **options)
    return history, many


@functools.cache
def folder():
    data, where = (batch()["x"], batch()["y"]), tempfile.mkdtemp()
    fn.fit(NET, SQUARES, SGD, state(), data, epochs=2, batch_size=3, checkpoint=fn.Checkpoint(where))
    return where


def classes():
    return batch() | {"loss": CLASSES, "y": jnp.asarray(LABELS)}


def answers():
    return batch(DEEP) | {"loss": ANSWERS, "y": jnp.asarray(LABELS)[:, None]}


def costs(of):
    extras = {"weights": jnp.ones(6), "penalty": fn.L2(0.1), "reduction": "mean"}
    return of() | extras


def contracted(**options):
    return {"net": NET, "bp": backprop(), **options}


def training(**options):
    data = batch()["x"], batch()["y"]
    return {"net": NET, "loss": SQUARES, "optimizer": SGD, "state": state(), "data": data, **options}


OPTIONS = {
    "batch_size": 3, "weights": None, "penalty": fn.L2(0.1), "trainable": (True, True, False), "accumulate": 1,
    "compute_dtype": None,
}  # fmt: skip


def whole(**options):
    held = batch()["x"], batch()["y"]
    own = {
        "epochs": 1, "validation": held, "metrics": [fn.R2()], "early_stopping": fn.EarlyStopping(), "progress": False,
        "on_epoch": None, "checkpoint": None, "privacy": None, "telemetry": 0, "non_finite": "stop",
    }  # fmt: skip
    return training(**OPTIONS, **own, **options)


def many():
    arguments = whole(seeds=(0, 1), sweep={"learning_rate": [0.1, 0.2]})
    del arguments["state"]
    return arguments


def explained(**options):
    return batch(CHAIN) | options


def updated(net, loss, **call):
    kfac = fn.scale_by_kfac(net, loss, kind="ggn")
    return kfac.update(call["grads"], kfac.init(call["params"]), call["params"], backprop=call["backprop"])


def half_function(params, x):
    return sum(map(jnp.sum, jax.tree.leaves(params)), jnp.ones((), x.dtype)) * x


CONV = {"n_in": 2, "n_out": 3, "kernel_size": (3,), "stride": 1, "padding": "SAME", "dilation": 1, "bias": True}
POOL = {"window": (2,), "stride": None, "padding": "VALID"}
INIT = {"init": fn.GlorotUniform()}
SPECS = {
    "Chain": (lambda layer, name: fn.Chain(layer, name=name), {"layer": fn.Dense(2, 2), "name": ""}),
    "Dense": (fn.Dense, {"n_in": 2, "n_out": 3, "bias": True} | INIT),
    "Conv": (fn.Conv, CONV | {"groups": 1} | INIT),
    "ConvTranspose": (fn.ConvTranspose, CONV | {"groups": 1} | INIT),
    "MaxPool": (fn.MaxPool, POOL),
    "AvgPool": (fn.AvgPool, POOL),
    "Embedding": (fn.Embedding, {"vocabulary": 5, "n_out": 3} | INIT),
    "Tied": (fn.Tied, {"embedding": fn.Embedding(5, 3), "layer": fn.Dense(3, 3)}),
    "LearnedPositions": (fn.LearnedPositions, {"length": 4, "n": 3}),
    "Rotary": (fn.Rotary, {"heads": 3, "turned": 2, "base": 10.0}),
    "Attention": (fn.Attention, {"n": 8, "heads": 2, "kv_heads": 1, "causal": True, "block": None}),
    "Gated": (fn.Gated, {"activation": fn.SiLU()}),
    "GRU": (fn.GRU, {"n_in": 2, "n_out": 3}),
    "LSTM": (fn.LSTM, {"n_in": 2, "n_out": 3}),
    "Residual": (fn.Residual, {"layer": fn.Tanh()}),
    "Parallel": (lambda layer, join: fn.Parallel(layer, join=join), {"layer": fn.Tanh(), "join": "sum"}),
    "Repeat": (fn.Repeat, {"layer": fn.Dense(2, 2), "n": 3}),
    "Remat": (fn.Remat, {"layer": fn.Dense(2, 2)}),
    "Dropout": (fn.Dropout, {"rate": 0.5}),
    "RandomShift": (fn.RandomShift, {"pixels": 2}),
    "LayerNorm": (fn.LayerNorm, {"n": 4, "epsilon": 1e-5}),
    "RMSNorm": (fn.RMSNorm, {"n": 4, "epsilon": 1e-5}),
    "GroupNorm": (fn.GroupNorm, {"n": 4, "groups": 2, "epsilon": 1e-5}),
    "FrozenBatchNorm": (fn.FrozenBatchNorm, {"n": 4, "epsilon": 1e-5}),
    "LeakyReLU": (fn.LeakyReLU, {"slope": 0.1}),
    "ELU": (fn.ELU, {"alpha": 0.5}),
    "GELU": (fn.GELU, {"approximate": True}),
    "FeedbackAlignment": (fn.FeedbackAlignment, {"layer": fn.Dense(2, 2), "seed": 1}),
    "SignSymmetric": (fn.SignSymmetric, {"layer": fn.Dense(2, 2)}),
    "Huber": (fn.Huber, {"threshold": 1.0}),
    "CrossEntropy": (fn.CrossEntropy, {"label_smoothing": 0.1}),
    "BinaryCrossEntropy": (fn.BinaryCrossEntropy, {"positive_weight": 2.0}),
    "L1": (fn.L1, {"strength": 0.1, "on": ("w",)}),
    "L2": (fn.L2, {"strength": 0.1, "on": ("w",)}),
    "ElasticNet": (fn.ElasticNet, {"l1": 0.1, "l2": 0.1, "on": ("w",)}),
    "Uniform": (fn.Uniform, {"epsilon": 0.1}),
    "Normal": (fn.Normal, {"std": 0.1}),
    "Constant": (fn.Constant, {"value": 0.5}),
    "EarlyStopping": (
        fn.EarlyStopping,
        {"monitor": "cost", "patience": 3, "min_change": 0.1, "start_from_epoch": 1},
    ),
    "Checkpoint": (
        fn.Checkpoint,
        {"directory": "runs", "seconds": 1.0, "keep": 2, "name": "", "overwrite": False},
    ),
    "Privacy": (fn.Privacy, {"max_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-5, "per_layer": False}),
    "TopK": (fn.TopK, {"k": 2}),
}

BLOCKS = {
    "vocabulary": 5, "length": 4, "n": 8, "heads": 2, "depth": 1, "tied": True, "norm": fn.LayerNorm, "rotary": False,
    "gated": False, "kv_heads": None, "hidden": 8, "bias": True, "causal": True, "dropout": 0.0, "repeat": False,
    "remat": False,
}  # fmt: skip
PRIVATE = {"max_norm": 1.0, "noise_multiplier": 1.0, "expected_batch_size": 6}
NEEDS = {"epsilon": 2.0, "delta": 1e-5, "examples": 60, "batch_size": 6, "epochs": 2}
WORDS = {"weights": None, "reduction": "mean", "notation": "θ", "names": None, "digits": 6}
ALONG = ((1, 0, 0), (1, 0, 1))

CALLS = {
    **{name: (lambda made=made: made) for name, made in SPECS.items()},
    "mlp": lambda: (fn.mlp, {"sizes": (3, 4, 2), "activation": fn.Tanh(), "output": fn.Sigmoid(), **INIT}),
    "gpt": lambda: (fn.gpt, BLOCKS),
    "init": lambda: (fn.init, {"net": NET, "key": jax.random.key(0)}),
    "from_weights": lambda: (
        fn.from_weights,
        {"net": NET, "ws": [array(0, 3, 4), array(1, 4, 2)], "bs": [array(2, 4), 0.5], "order": "from,to"},
    ),
    "predict": lambda: (fn.predict, {"net": NET, "params": params(), "x": batch()["x"]}),
    "forward": lambda: (
        fn.forward,
        {"net": DROPS, "params": params(DROPS), "x": batch()["x"], "key": jax.random.key(0)},
    ),
    "backward": lambda: (
        fn.backward,
        {"net": NET, "params": params(), "tape": backprop().tape, "delta": array(3, 6, 2)},
    ),
    "gradient": lambda: (fn.gradient, {"net": NET, "tape": backprop().tape, "deltas": backprop().deltas}),
    "cost": lambda: (fn.cost, costs(batch)),
    "cost of classes": lambda: (fn.cost, costs(classes)),
    "cost of answers": lambda: (fn.cost, costs(answers)),
    "value_and_grad": lambda: (
        fn.value_and_grad,
        costs(batch) | {"net": DROPS, "params": params(DROPS), "key": jax.random.key(0)},
    ),
    "backprop": lambda: (fn.backprop, classes() | {"weights": jnp.ones(6), "key": None}),
    "generate": lambda: (
        fn.generate,
        {
            "net": TEXTS,
            "params": params(TEXTS),
            "tokens": jnp.array([[1, 2]]),
            "length": 2,
            "key": jax.random.key(0),
            "temperature": 1.0,
            "top_k": 2,
            "top_p": 0.9,
            "stop": 0,
        },
    ),
    "windows": lambda: (fn.windows, {"tokens": np.arange(8), "length": 3}),
    "as_function": lambda: (fn.as_function, {"net": NET}),
    "as_function(…)": lambda: (
        fn.as_function(DROPS),
        {"params": params(DROPS), "x": batch()["x"], "key": jax.random.key(0)},
    ),
    "as_cost": lambda: (
        fn.as_cost,
        {name: value for name, value in costs(batch).items() if name != "params"} | {"key": None},
    ),
    "as_cost(…)": lambda: (fn.as_cost(NET, SQUARES, batch()["x"], batch()["y"]), {"params": params()}),
    "check_gradients": lambda: (
        fn.check_gradients,
        costs(batch) | {"grads": params(), "key": None, "entries": 2, "seed": 0},
    ),
    "check_layer": lambda: (
        fn.check_layer,
        {
            "layer": fn.Dense(2, 2),
            "params": params(fn.Dense(2, 2)),
            "x": array(0, 4, 2),
            "key": None,
            "entries": 2,
            "seed": 0,
        },
    ),
    "check_function": lambda: (
        fn.check_function,
        {"f": half_function, "params": {"w": array(0, 2, 2)}, "x": array(1, 3, 2), "entries": 2, "seed": 0},
    ),
    "weighted_gradient": lambda: (fn.weighted_gradient, contracted(weights=jnp.ones(6))),
    "example_gradients": lambda: (fn.example_gradients, contracted()),
    "example_square_norms": lambda: (fn.example_square_norms, contracted(per_layer=False)),
    "example_gram": lambda: (fn.example_gram, contracted(other=None)),
    "example_cosines": lambda: (fn.example_cosines, contracted(other=backprop())),
    "gradient_moments": lambda: (fn.gradient_moments, contracted()),
    "noise_scale": lambda: (fn.noise_scale, contracted()),
    "gradient_flow": lambda: (fn.gradient_flow, contracted(params=params())),
    "clipped_gradient": lambda: (
        fn.clipped_gradient,
        contracted(max_norm=1.0, per_layer=False, trainable=(True, True, False)),
    ),
    "private_gradient": lambda: (
        fn.private_gradient,
        contracted(key=jax.random.key(0), per_layer=False, trainable=None, **PRIVATE),
    ),
    "ggn_diagonal": lambda: (fn.ggn_diagonal, batch() | {"kind": "sampled", "key": jax.random.key(0)}),
    "empirical_fisher_diagonal": lambda: (fn.empirical_fisher_diagonal, batch()),
    "kronecker_factors": lambda: (fn.kronecker_factors, classes() | {"kind": "ggn", "key": None}),
    "scale_by_kfac": lambda: (
        fn.scale_by_kfac,
        {"net": NET, "loss": SQUARES, "kind": "ggn", "damping": 0.1, "decay": 0.9, "every": 2, "seed": 0},
    ),
    "scale_by_kfac(…).update": lambda: (
        functools.partial(updated, NET, SQUARES),
        {"grads": params(), "params": params(), "backprop": backprop()},
    ),
    "explain": lambda: (
        fn.explain,
        explained(**WORDS) | {"weight": (1, 0, 0), "example": 0, "largest": 2},
    ),
    "explain_page": lambda: (
        fn.explain_page,
        explained(
            path=None,
            names=None,
            examples=[*"abcdef"],
            example=0,
            learning_rate=0.1,
            steps=1,
            trainable=(True, True, False),
            largest=2,
            title="title",
        ),
    ),
    "factor_counts": lambda: (fn.factor_counts, {"net": CHAIN}),
    "worksheet": lambda: (
        fn.worksheet,
        explained(**WORDS) | {"learning_rate": 0.1, "trainable": (True, True, False), "blank": False},
    ),
    "summary": lambda: (fn.summary, {"net": NET, "x": batch()["x"]}),
    "diagnose": lambda: (
        fn.diagnose,
        batch()
        | {
            "params": jax.tree.map(lambda leaf: 0 * leaf + 0.1, params()),
            "weights": None,
            "penalty": None,
            "optimizer": SGD,
            "batch_size": 3,
            "validation": (batch()["x"], batch()["y"]),
            "history": histories()[0],
            "key": jax.random.key(0),
            "progress": False,
        },
    ),
    "plot_cost_surface": lambda: (
        fn.plot_cost_surface,
        batch()
        | {
            "along": ALONG,
            "path": [params(), params()],
            "span": ((0, 1), (0, 1)),
            "points": 3,
            "weights": None,
            "penalty": fn.L2(0.1),
            "reduction": "mean",
            "ax": None,
        },
    ),
    "plot_decision_regions": lambda: (
        fn.plot_decision_regions,
        {
            "net": PLANE,
            "params": params(PLANE),
            "x": array(0, 6, 2),
            "y": jnp.asarray(LABELS),
            "labels": ["a", "b"],
            "names": ("u", "v"),
            "threshold": 0.0,
            "points": 3,
            "ax": None,
        },
    ),
    "plot_weights": lambda: (
        fn.plot_weights,
        {"net": NET, "params": params(), "shape": (1, 3), "most": 2, "ax": None},
    ),
    "plot_confusion": lambda: (
        fn.plot_confusion,
        {"predicted": array(0, 6, 2), "y": jnp.asarray(LABELS), "labels": ["a", "b"], "threshold": 0.0, "ax": None},
    ),
    "plot_gradient_flow": lambda: (
        fn.plot_gradient_flow,
        {"history": histories()[0], "what": "delta", "ax": None},
    ),
    "plot_gradient_norms": lambda: (fn.plot_gradient_norms, contracted(max_norm=1.0, ax=None)),
    "train_state": lambda: (fn.train_state, {"optimizer": SGD, "params": params(), "key": jax.random.key(0)}),
    "train_epoch": lambda: (fn.train_epoch, training(**OPTIONS)),
    "fit": lambda: (fn.fit, whole()),
    "fit_many": lambda: (fn.fit_many, many()),
    "evaluate": lambda: (
        fn.evaluate,
        {
            "net": NET,
            "loss": CLASSES,
            "params": params(),
            "data": (batch()["x"], jnp.asarray(LABELS)),
            "metrics": [fn.Accuracy()],
            "weights": None,
        },
    ),
    "load_checkpoint": lambda: (fn.load_checkpoint, {"folder": folder(), "which": "last", "optimizer": SGD}),
    "class_weights": lambda: (fn.class_weights, {"y": LABELS, "wanted": None}),
    "noise_multiplier": lambda: (fn.noise_multiplier, NEEDS),
    "spec": lambda: (fn.spec, {"cls": type("Two", (), {"__annotations__": {"n": int}})}),
    "contract": lambda: (
        lambda layer, f, tape, deltas: fn.contract(layer, f, tape, deltas),
        {"layer": NET, "f": by_hand, "tape": backprop().tape, "deltas": backprop().deltas},
    ),
    "pull": lambda: (
        fn.pull,
        {"layer": NET, "f": by_hand, "params": params(), "tape": backprop().tape, "delta": array(3, 6, 2)},
    ),
    "layer_forward": lambda: (
        fn.layer_forward,
        {"layer": NET, "params": params(), "x": batch()["x"], "context": None},
    ),
    "child_key": lambda: (fn.child_key, {"key": jax.random.key(0), "number": 1}),
    "History.__getitem__": lambda: (histories()[0].__getitem__, {"name": "cost"}),
    "History.seen": lambda: (histories()[0].seen, {"name": "noise_scale"}),
    "History.plot": lambda: (histories()[0].plot, {"ax": None}),
    "Trainings.__getitem__": lambda: (histories()[1].__getitem__, {"lane": 1}),
    "Trainings.values": lambda: (histories()[1].values, {"column": "cost"}),
    "Trainings.best": lambda: (histories()[1].best, {"column": "cost"}),
    "Trainings.grid": lambda: (histories()[1].grid, {"column": "cost", "rows": "seed", "columns": "learning_rate"}),
    "Trainings.plot": lambda: (
        histories()[1].plot,
        {"column": "cost", "rows": "seed", "columns": "learning_rate", "ax": None},
    ),
    "Trainings.table": lambda: (histories()[1].table, {"column": "cost", "rows": 2}),
    "SquaredError().value": lambda: (SQUARES.value, {"output": array(0, 6, 2), "y": array(1, 6, 2)}),
    "CrossEntropy().delta": lambda: (CLASSES.delta, {"output": array(0, 6, 2), "y": jnp.asarray(LABELS)}),
    "CrossEntropy().probabilities": lambda: (CLASSES.probabilities, {"output": array(0, 6, 2)}),
    "Accuracy().value": lambda: (
        fn.Accuracy().value,
        {"output": array(0, 6, 2), "y": jnp.asarray(LABELS), "weights": None},
    ),
}


def by_hand(leaf, tape, deltas):
    return leaf.gradient(tape, deltas)

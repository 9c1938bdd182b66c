"""Each law of a layer: a layer that breaks it alone is caught under its name, and the honest one passes."""

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from stacks import Attending, Recomputed, SideBySide, Stack, Window
from table import disagreement, params_of, random

import funcnet as fn
from funcnet._core.numerics import wide

X, TOKENS = random(1, 4, 3), jnp.array([[0, 3], [3, 3], [4, 1]])


def broken_laws(layer, params=None, x=X, **options):
    report = fn.check_layer(layer, params_of(layer) if params is None else params, x, **options)
    assert all(law.name in str(report) and law.evidence for law in report.laws)
    return [law.name for law in report.laws if not law.held]


KEPT = ("__init__", "__post_init__")


def variant(cls, **members):
    """A copy of a spec's class with some members replaced, and equal to no other."""
    names = {name: value for name, value in vars(cls).items() if name in KEPT or not name.startswith("__")}
    made = type(f"Other{cls.__name__}", (), names | members)
    made.__annotations__ = dict(cls.__annotations__)
    return fn.spec(made)


# ------------------------------------------------------------------ optional functions
@fn.spec
class Weights:
    """y = x w + b with an optional function of every kind, each of them true."""

    n_in: int
    n_out: int
    by_position: ClassVar[bool] = True

    def init(self, key):
        return {"w": jax.random.normal(key, (self.n_in, self.n_out)), "b": jnp.zeros(self.n_out)}

    def forward(self, params, x):
        return x @ params["w"] + lax.broadcast(params["b"], x.shape[:-1]), x

    def backward(self, params, tape, delta):
        return delta @ params["w"].T, delta

    def gradient(self, tape, deltas):
        x, delta = (wide(a.reshape(-1, a.shape[-1])) for a in (tape, deltas))
        return {"w": x.T @ delta, "b": delta.sum(0)}

    def example_gradients(self, tape, deltas):
        return {"w": jnp.einsum("mi,mo->mio", tape, deltas), "b": deltas} if tape.ndim == 2 else None

    def square_norms(self, tape, deltas):
        return ((tape**2).sum(-1) + 1) * (deltas**2).sum(-1) if tape.ndim == 2 else None

    def square_sum(self, tape, deltas):
        return {"w": (tape**2).T @ deltas**2, "b": (deltas**2).sum(0)} if tape.ndim == 2 else None

    def inner(self, tape, deltas, tape2, deltas2):
        return (tape @ tape2.T + 1) * (deltas @ deltas2.T) if tape.ndim == 2 else None

    def as_dense(self, tape, deltas):
        return *(a.reshape(len(a), -1, a.shape[-1]) for a in (tape, deltas)), True


def hundredth(self, tape, deltas):
    return Weights.square_norms(self, tape, deltas) / 100


def nothing(self, tape, deltas):
    return jax.tree.map(jnp.zeros_like, self.gradient(tape, deltas))


def of_one_pass(self, tape, deltas, tape2, deltas2):
    return (tape @ tape[: len(tape2)].T + 1) * (deltas @ deltas2.T)


def without_bias(self, tape, deltas):
    return *Weights.as_dense(self, tape, deltas)[:2], False


def scaled_form(self, tape, deltas):
    x, delta, _ = Weights.as_dense(self, tape, deltas)
    return 2 * x, delta, True


def through_a_matrix(self, tape, deltas):
    return jnp.eye(len(tape)) @ Weights.square_norms(self, tape, deltas)


def transposed(self, tape, deltas):
    grads = Weights.example_gradients(self, tape, deltas)
    return grads | {"w": grads["w"].reshape(len(tape), self.n_out, self.n_in).swapaxes(1, 2)}


FUNCTIONS = [
    ({"example_gradients": transposed}, ["example_gradients are"]),
    ({"square_norms": hundredth}, ["square_norms are those"]),
    ({"square_norms": lambda self, tape, deltas: jnp.zeros((len(tape), 1))}, ["square_norms are those"]),
    ({"square_sum": nothing}, ["square_sum is that"]),
    ({"inner": lambda self, t, d, t2, d2: jnp.zeros((len(t), len(t2)))}, ["inner gives"]),
    ({"inner": of_one_pass}, ["inner gives"]),
    ({"as_dense": without_bias}, ["as_dense is"]),
    ({"as_dense": scaled_form}, ["as_dense is"]),
    ({"as_dense": lambda self, tape, deltas: (tape, deltas, True)}, ["as_dense is"]),
    ({"square_norms": through_a_matrix}, ["what is not finite"]),
]


@pytest.mark.fast
def test_optional_functions_that_tell_the_truth_pass():
    assert not broken_laws(Weights(3, 2))
    assert not broken_laws(Weights(3, 2), x=random(1, 3, 2, 3))


@pytest.mark.fast
@pytest.mark.parametrize(("lie", "laws"), FUNCTIONS, ids=[" ".join(laws) for _, laws in FUNCTIONS])
def test_an_optional_function_that_lies_is_caught(lie, laws):
    names = broken_laws(variant(Weights, **lie)(3, 2))
    assert [name[: len(law)] for name, law in zip(names, laws, strict=True)] == laws


@pytest.mark.fast
def test_the_copy_of_dense_with_the_wrong_functions_fails():
    """A hundredth of the norms, nothing for the rest."""
    lies: Any = {
        "square_norms": lambda self, t, d: ((t**2).sum(-1) + 1) * (d**2).sum(-1) / 100,
        "square_sum": nothing,
        "inner": lambda self, t, d, t2, d2: jnp.zeros((len(t), len(t2))),
    }
    names = broken_laws(variant(fn.Dense, **lies)(3, 2))
    assert [name.split()[0] for name in names] == ["inner", "square_norms", "square_sum"]


def wide_gradient(self, tape, deltas):
    return Window.gradient(self, wide(tape), wide(deltas))


STACKED = fn.Residual(fn.Chain(fn.Dense(3, 3), fn.Tanh()))


@pytest.mark.parametrize(
    "net",
    [
        fn.Chain(Stack(STACKED, 4), fn.Dense(3, 2)),
        Recomputed(Stack(fn.Chain(Recomputed(fn.Dense(3, 3)), fn.LayerNorm(3)), 2)),
        SideBySide((Stack(fn.Dense(3, 3), 2), fn.Tanh(), variant(Window, gradient=wide_gradient)(3))),
    ],
    ids=["stack as deep as there are examples", "made again", "side by side"],
)
def test_stacks_pass(net):
    assert not broken_laws(net, x=random(1, 4, 2, 3))


@pytest.mark.fast
def test_a_lie_in_a_stack_is_caught():
    net = Stack(variant(Weights, square_norms=hundredth)(3, 3), 4)
    assert broken_laws(net) == ["square_norms are those of the examples' own gradients"]


# ------------------------------------------------------------------ flags
@fn.spec
class OwnScale:
    """y = x ⊙ w[t], which says that it treats positions as if they were examples."""

    length: int
    n: int
    by_position: ClassVar[bool] = True

    def init(self, key):
        return {"w": jnp.ones((self.length, self.n))}

    def forward(self, params, x):
        return x * params["w"][None], x

    def backward(self, params, tape, delta):
        return delta * params["w"][None], delta

    def gradient(self, tape, deltas):
        return {"w": jnp.sum(wide(tape * deltas), 0)}


@fn.spec
class PositionsMeet:
    """Each position less the mean of all, which changes nothing where there is one."""

    by_position: ClassVar[bool] = True

    def init(self, key):
        return ()

    def forward(self, params, x):
        return (x - x.mean(1, keepdims=True) if x.ndim > 2 else x), x

    def backward(self, params, tape, delta):
        return (delta - delta.mean(1, keepdims=True) if delta.ndim > 2 else delta), delta

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.fast
def test_a_wrong_by_position_is_caught():
    law = ["by_position is true: positions are as examples"]
    assert broken_laws(OwnScale(2, 3), x=random(1, 4, 2, 3)) == law
    assert not broken_laws(variant(OwnScale, by_position=False)(2, 3), x=random(1, 4, 2, 3))
    assert broken_laws(PositionsMeet(), x=X) == law  # x without positions gets some
    assert broken_laws(PositionsMeet(), x=random(1, 4, 2, 3)) == law
    assert not broken_laws(variant(PositionsMeet, by_position=False)(), x=random(1, 4, 2, 3))


def test_a_layer_that_claims_by_position_and_takes_no_positions_is_told():
    def forward(self, params, x):
        if x.ndim > 2:
            raise ValueError("no positions, please")
        return x @ params["w"] + params["b"][None], x

    report = fn.check_layer(variant(Weights, forward=forward)(3, 2), params_of(Weights(3, 2)), X)
    assert [law.evidence for law in report.laws if not law.held] == ["ValueError: no positions, please"]


# ------------------------------------------------------------------ structures
@fn.spec
class Twice:
    """y = f(f(x)): one layer, used twice, its two contractions added."""

    layer: fn.Layer

    def init(self, key):
        return self.layer.init(key)

    def forward(self, params, x, key=None):
        first, tape = self.layer.forward(params, x)
        y, tape2 = self.layer.forward(params, first)
        return y, (tape, tape2)

    def backward(self, params, tape, delta):
        middle, second = self.layer.backward(params, tape[1], delta)
        input_delta, first = self.layer.backward(params, tape[0], middle)
        return input_delta, (first, second)

    def contract(self, f, tape, deltas):
        return jax.tree.map(jnp.add, *(fn.contract(self.layer, f, t, d) for t, d in zip(tape, deltas)))


@fn.spec
class Shared:
    """Two layers with the same parameters."""

    first: fn.Layer
    second: fn.Layer

    def init(self, key):
        return self.first.init(key)

    def forward(self, params, x, key=None):
        return Twice.forward(Twice(self.first), params, x)

    def backward(self, params, tape, delta):
        return Twice.backward(Twice(self.first), params, tape, delta)

    def contract(self, f, tape, deltas):
        return Twice.contract(Twice(self.first), f, tape, deltas)


@pytest.mark.fast
def test_a_layer_contracted_twice_is_caught():
    assert broken_laws(Twice(fn.Dense(3, 3))) == [
        "contract takes f at every leaf layer once, in a tree like the parameters"
    ]


@pytest.mark.fast
def test_parameters_shared_between_two_layers_are_caught():
    assert [name[:30] for name in broken_laws(Shared(fn.Dense(3, 3), fn.Dense(3, 3)))] == [
        "a leaf's parameters are a dict"
    ]


@fn.spec
class Swapped:
    """Two layers, contracted in the wrong order: norms of the one would stand at the other."""

    first: fn.Layer
    second: fn.Layer

    def init(self, key):
        return self.first.init(key), self.second.init(key)

    def forward(self, params, x, key=None):
        middle, tape = self.first.forward(params[0], x)
        y, tape2 = self.second.forward(params[1], middle)
        return y, (tape, tape2)

    def backward(self, params, tape, delta):
        middle, second = self.second.backward(params[1], tape[1], delta)
        input_delta, first = self.first.backward(params[0], tape[0], middle)
        return input_delta, (first, second)

    def contract(self, f, tape, deltas):
        first, second = fn.Dense(3, 3), fn.Dense(3, 3, bias=True, init=fn.HeNormal())
        return f(second, tape[0], deltas[0]), f(first, tape[1], deltas[1])


@pytest.mark.fast
def test_leaves_in_another_order_are_caught():
    net = Swapped(fn.Dense(3, 3), fn.Dense(3, 3, init=fn.HeNormal()))
    assert [name[:13] for name in broken_laws(net)] == ["contract take"]


@fn.spec
class Bare:
    """y = w x with parameters of some kind."""

    kind: str

    def init(self, key):
        w = jnp.ones(3)
        return {"tuple": (w,), "array": w, "dict of dicts": {"inner": {"w": w}}}[self.kind]

    def forward(self, params, x):
        return x * jax.tree.leaves(params)[0][None], x

    def backward(self, params, tape, delta):
        return delta * jax.tree.leaves(params)[0][None], delta

    def gradient(self, tape, deltas):
        total = jnp.sum(wide(tape * deltas), 0)
        return jax.tree.map(lambda _: total, self.init(None))


@fn.spec
class DictOfLayers:
    """A chain of two whose parameters are a dict with one dict for each."""

    first: fn.Layer
    second: fn.Layer

    def init(self, key):
        return {"first": self.first.init(key), "second": self.second.init(key)}

    def forward(self, params, x, key=None):
        return Swapped.forward(self, (params["first"], params["second"]), x)

    def backward(self, params, tape, delta):
        return Swapped.backward(self, (params["first"], params["second"]), tape, delta)

    def contract(self, f, tape, deltas):
        parts = (self.first, self.second)
        results = (fn.contract(part, f, t, d) for part, t, d in zip(parts, tape, deltas))
        return dict(zip(("first", "second"), results))


@pytest.mark.fast
@pytest.mark.parametrize(
    "layer",
    [Bare("tuple"), Bare("array"), Bare("dict of dicts"), DictOfLayers(fn.Dense(3, 4), fn.Dense(4, 2))],
    ids=repr,
)
def test_parameters_that_are_not_a_dict_for_each_leaf_are_caught(layer):
    names = broken_laws(layer, layer.init(jax.random.key(0)))
    assert names == [
        "a leaf's parameters are a dict of arrays, a combinator's a tuple of its layers' or its one layer's"
    ]


# ------------------------------------------------------------------ what must not matter
@fn.spec
class Fused:
    """y = tanh(x w + b): its slope is of the tape, or of parameters that `backward` is given."""

    n_in: int
    n_out: int
    bias: bool = True
    by_position: ClassVar[bool] = True

    def init(self, key):
        return fn.Dense(self.n_in, self.n_out, self.bias).init(key)

    def sums(self, params, x):
        z = x @ params["w"]
        return z + lax.broadcast(params["b"], z.shape[:-1]) if self.bias else z

    def forward(self, params, x):
        y = jnp.tanh(self.sums(params, x))
        return y, (x, y)

    def slope(self, params, tape):
        return 1 - tape[1] ** 2

    def backward(self, params, tape, delta):
        delta = delta * self.slope(params, tape)
        return delta @ params["w"].T, delta

    def gradient(self, tape, deltas):
        return fn.Dense(self.n_in, self.n_out, self.bias).gradient(tape[0], deltas)


def remade(self, params, tape):
    return 1 - jnp.tanh(self.sums(params, tape[0])) ** 2


def relu_remade(self, params, tape):
    return (self.sums(params, tape[0]) > 0).astype(tape[0].dtype)


def relu(self, params, x):
    y = jnp.maximum(self.sums(params, x), 0)
    return y, (x, y)


BIASES, REMADE = "backward does not read additive", "backward makes nothing of the f"


@pytest.mark.fast
@pytest.mark.parametrize("lie", [{"slope": remade}, {"slope": relu_remade, "forward": relu}], ids=["tanh", "ReLU"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_slope_made_again_from_the_parameters_is_caught(lie, bias):
    names = broken_laws(variant(Fused, **lie)(3, 2, bias), x=random(2, 4, 3))
    assert [name[:31] for name in names] == [BIASES, REMADE][not bias :]


@fn.spec
class Bend:
    """y = tanh(θ x), θ a parameter of each feature, softplus of it, or of a vector of length 1."""

    n: int
    factor: str = "itself"
    again: bool = False

    def init(self, key):
        return {"θ": 0.5 + jax.random.uniform(key, (self.n,))}

    def factors(self, params):
        θ = params["θ"]
        return {"itself": θ, "softplus": jax.nn.softplus(θ), "unit": θ / jnp.sqrt(jnp.sum(θ * θ)), "root": jnp.sqrt(θ)}[
            self.factor
        ][None]

    def forward(self, params, x):
        y = jnp.tanh(self.factors(params) * x)
        return y, (x, y, params["θ"][None] + jnp.zeros_like(x))

    def backward(self, params, tape, delta):
        y = jnp.tanh(self.factors(params) * tape[0]) if self.again else tape[1]
        return delta * (1 - y * y) * self.factors(params), delta

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(self, tape, deltas):
        x, y, θ = tape
        of_factors = wide(deltas * (1 - y * y) * x)
        back = jax.vmap(lambda θ, g: jax.vjp(lambda θ: self.factors({"θ": θ})[0], θ)[1](g)[0])
        return {"θ": jnp.sum(back(wide(θ), of_factors), 0)}


@pytest.mark.parametrize("factor", ["itself", "softplus", "unit", "root"])
def test_a_parameter_that_multiplies_may_be_made_of_another(factor):
    params = {"θ": jnp.array([0.3, 0.9, 1.4])}
    assert not broken_laws(Bend(3, factor), params)
    assert [name[:31] for name in broken_laws(Bend(3, factor, again=True), params)] == [REMADE]


@fn.spec
class Recurrent:
    """h_t = tanh(x_t + u h_{t-1}): the error signal takes u as often as there are steps."""

    n: int

    def init(self, key):
        return {"u": jax.random.normal(key, (self.n, self.n))}

    def forward(self, params, x):
        def step(h, x):
            h = jnp.tanh(x + h @ params["u"])
            return h, h

        hs = jnp.moveaxis(lax.scan(step, jnp.zeros_like(x[:, 0]), jnp.moveaxis(x, 1, 0))[1], 0, 1)
        return hs, hs

    def backward(self, params, tape, delta):
        def step(carried, own):
            h, delta = own
            delta = (delta + carried) * (1 - h * h)
            return delta @ params["u"].T, delta

        own = jnp.moveaxis(tape, 1, 0), jnp.moveaxis(delta, 1, 0)
        deltas = jnp.moveaxis(lax.scan(step, jnp.zeros_like(delta[:, 0]), own, reverse=True)[1], 0, 1)
        return deltas, deltas

    def gradient(self, tape, deltas):
        before = jnp.pad(tape[:, :-1], ((0, 0), (1, 0), (0, 0)))
        return {"u": jnp.einsum("mti,mto->io", wide(before), wide(deltas))}


def test_a_recurrent_layer_uses_a_parameter_more_than_once():
    assert not broken_laws(Recurrent(3), x=random(1, 3, 12, 3))
    flat = fn.Chain(Recurrent(3), FlatDense())
    report = fn.check_layer(flat, params_of(flat), random(1, 3, 12, 3))
    assert report.ok, str(report)
    assert "takes no fewer positions" in str(report)


@fn.spec
class FourTimes:
    """y = x w w w w: the error signal takes the same w four times. The tape holds what came in each time."""

    n: int

    def init(self, key):
        return {"w": jax.random.normal(key, (self.n, self.n))}

    def forward(self, params, x):
        powers = [x]
        for _ in range(4):
            powers.append(powers[-1] @ params["w"])
        return powers.pop(), tuple(powers)

    def backward(self, params, tape, delta):
        deltas = [delta]
        for _ in range(4):
            deltas.append(deltas[-1] @ params["w"].T)
        return deltas.pop(), tuple(reversed(deltas))

    def gradient(self, tape, deltas):
        return {"w": sum(wide(x).T @ wide(delta) for x, delta in zip(tape, deltas))}


@pytest.mark.fast
def test_a_leaf_may_use_a_parameter_several_times():
    assert not broken_laws(FourTimes(3))


@fn.spec
class TiedAutoencoder:
    """y = tanh(x w + b) wᵀ + c: one matrix, there and back."""

    n_in: int
    n_hidden: int

    def init(self, key):
        b, c = jnp.zeros(self.n_hidden), jnp.zeros(self.n_in)
        return {"w": jax.random.normal(key, (self.n_in, self.n_hidden)), "b": b, "c": c}

    def forward(self, params, x):
        h = jnp.tanh(x @ params["w"] + params["b"][None])
        return h @ params["w"].T + params["c"][None], (x, h)

    def backward(self, params, tape, delta):
        inner = (delta @ params["w"]) * (1 - tape[1] ** 2)
        return inner @ params["w"].T, (inner, delta)

    def gradient(self, tape, deltas):
        (x, h), (inner, delta) = (map(wide, kept) for kept in (tape, deltas))
        return {"w": x.T @ inner + delta.T @ h, "b": inner.sum(0), "c": delta.sum(0)}


@pytest.mark.fast
def test_a_tied_autoencoder_is_one_leaf_with_the_norms_of_jax():
    net, loss = fn.Chain(fn.Dense(3, 3), TiedAutoencoder(3, 2)), fn.SquaredError()
    params = params_of(net)
    assert not broken_laws(net, params)

    @jax.jit
    def norms(params, x):
        def of_one(one):
            squares = jax.tree.map(
                lambda g: (g * g).sum(), jax.grad(fn.cost, 2)(net, loss, params, one[None], one[None])
            )
            return sum(jax.tree.leaves(squares))

        return fn.example_square_norms(net, fn.backprop(net, loss, params, x, x)), lax.map(of_one, x)

    assert disagreement(*norms(params, X)) <= 1e-12


@fn.spec
class FlatDense:
    """Twelve positions of three features as 36 features, weighted and summed."""

    def init(self, key):
        return {"w": jax.random.normal(key, (36, 2))}

    def forward(self, params, x):
        return x.reshape(len(x), -1) @ params["w"], x

    def backward(self, params, tape, delta):
        return (delta @ params["w"].T).reshape(tape.shape), delta

    def gradient(self, tape, deltas):
        return fn.Dense(36, 2, bias=False).gradient(tape.reshape(len(tape), -1), deltas)


@fn.spec
class Noisy:
    """y = x + noise of a key."""

    declares: bool
    draws = property(lambda self: self.declares)

    def init(self, key):
        return ()

    def forward(self, params, x, key=None):
        if key is None:
            return x, ()
        return x + jax.vmap(lambda one: jax.random.normal(one, x.shape[1:], x.dtype))(key), ()

    def backward(self, params, tape, delta):
        return delta, delta

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.fast
def test_a_key_that_is_not_declared_may_not_matter():
    assert broken_laws(Noisy(False), ()) == ["without a declared key the output does not depend on one"]
    assert not broken_laws(Noisy(True), ())
    assert not broken_laws(Noisy(True), (), key=jax.random.key(0))


class Leaking(Attending):
    """`Attending`, whose output holds a little of every position."""

    def forward(self, params, x, segments=None):
        y, tape = Attending.forward(self, params, x, segments)
        return y + x.mean(1, keepdims=True), tape

    def backward(self, params, tape, delta):
        input_delta, deltas = Attending.backward(self, params, tape, delta)
        return input_delta + delta.mean(1, keepdims=True), deltas


@pytest.mark.fast
def test_a_segment_that_sees_another_is_caught():
    x = random(1, 2, 5, 3)
    assert not broken_laws(Attending(), (), x=x)
    assert broken_laws(fn.spec(Leaking)(), (), x=x) == ["another segment's input changes nothing"]


# ------------------------------------------------------------------ types
@pytest.mark.fast
def test_a_gradient_that_stays_in_bfloat16_is_caught():
    def plain(self, tape, deltas):
        return {"w": tape.T @ deltas, "b": deltas.sum(0)}

    def narrow(self, tape, deltas):
        dtype = jnp.bfloat16 if tape.dtype != jnp.float64 else jnp.float64
        return {"w": (tape.T @ deltas).astype(dtype), "b": deltas.sum(0)}

    assert not broken_laws(variant(Weights, gradient=plain, by_position=False)(3, 2))  # its tape is widened for it
    assert broken_laws(variant(Weights, gradient=narrow, by_position=False)(3, 2)) == [
        "a bfloat16 tape gives a float32 gradient"
    ]


@fn.spec
class Table:
    """y = e[x], x integers."""

    n: int

    def init(self, key):
        return {"e": jax.random.normal(key, (self.n, 2))}

    def forward(self, params, x):
        return params["e"][x], (x, jnp.zeros((len(x), self.n, 0), params["e"].dtype))

    def backward(self, params, tape, delta):
        return jnp.zeros_like(tape[0]), delta

    def gradient(self, tape, deltas):
        rows = wide(deltas.reshape(-1, 2))
        return {"e": jnp.zeros((self.n, 2), rows.dtype).at[tape[0].reshape(-1)].add(rows)}


@pytest.mark.fast
def test_integers_have_no_error_signal():
    assert not broken_laws(Table(5), x=TOKENS)
    wrong = variant(Table, backward=lambda self, params, tape, delta: (delta[..., 0], delta))
    assert broken_laws(wrong(5), x=TOKENS) == ["integers as x have no error signal"]


# ------------------------------------------------------------------ ties
@fn.spec
class FirstOfLargest:
    """The largest of two neighbours; the first of equal ones takes the error."""

    def init(self, key):
        return ()

    def forward(self, params, x):
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        return pairs.max(-1), jnp.argmax(pairs, -1)

    def backward(self, params, tape, delta):
        return jnp.stack([jnp.where(tape == side, delta, 0) for side in (0, 1)], -1).reshape(
            *delta.shape[:-1], -1
        ), delta

    def gradient(self, tape, deltas):
        return ()


@pytest.mark.fast
def test_ties_of_a_maximum_are_kinks_however_many_entries_there_are():
    x = jnp.round(2 * random(3, 4, 200)) / 2
    report = fn.check_layer(FirstOfLargest(), (), x, entries=30)
    assert report.ok, str(report)
    ties = int((np.asarray(x).reshape(-1, 2)[:, 0] == np.asarray(x).reshape(-1, 2)[:, 1]).sum())
    assert ties > 50
    assert report.rows[0].kinks >= 2 * ties
    assert report.rows[0].checked < 800


def test_of_very_many_disagreements_some_are_looked_at_and_the_rest_counted(monkeypatch):
    monkeypatch.setattr("funcnet.check.differences.MOST_IN_DOUBT", 10)
    report = fn.check_layer(FirstOfLargest(), (), jnp.zeros((4, 40)), entries=5)
    assert not report.ok
    assert (report.rows[0].checked, report.rows[0].skipped) == (10, 150)
    assert "150 in doubt not differenced" in str(report)

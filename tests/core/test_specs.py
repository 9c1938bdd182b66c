"""Specs as values: fields coerced or refused, equality, printing, JSON."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.typing import ArrayLike
from table import Scale

import funcnet as fn


def test_numpy_scalars_and_lists_become_plain_values():
    layer = fn.Dense(np.int64(2), np.int32(3), bias=np.bool_(True))
    assert layer == fn.Dense(2, 3)
    assert hash(layer) == hash(fn.Dense(2, 3))
    assert type(layer.n_in) is int
    assert type(fn.Dropout(np.float32(0.5)).rate) is float
    assert type(fn.Huber(1).threshold) is float
    assert fn.L2(0.1, on=["w"]).on == ("w",)


def test_a_spec_is_frozen_and_static():
    layer = fn.Dense(2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.n_in = 5
    assert jax.tree.leaves(layer) == []
    assert jax.tree.leaves(fn.L2(0.1)) == [0.1]


def test_specs_of_different_classes_differ():
    assert fn.Tanh() != fn.Sigmoid()
    assert fn.Dense(2, 3) != fn.Dense(2, 3, bias=False)
    assert fn.Dense(2, 3) != fn.Dense(2, 3, init=fn.HeNormal())


@pytest.mark.parametrize(
    ("build", "fragments"),
    [
        (lambda: fn.Dense(1, 2.5), ["Dense", "n_out", "an int", "2.5 (float)"]),
        (lambda: fn.Dense(True, 2), ["n_in", "an int", "True (bool)"]),
        (lambda: fn.Dense("2", 2), ["n_in", "'2' (str)"]),
        (lambda: fn.Dense(np.array(2), 2), ["n_in", "arrays cannot be", "plain number"]),
        (lambda: fn.Dense(2, 2, bias=1), ["bias", "a bool", "1 (int)"]),
        (lambda: fn.Dense(2, 2, init=lambda key, shape, dtype: 0), ["Dense: init must be", "function", "@fn.spec"]),
        (lambda: fn.Dense(2, 2, init=jax.nn.initializers.he_normal()), ["Dense: init must be", "function", "@fn.spec"]),
        (lambda: fn.Dense(2, 2, init=fn.HeNormal), ["Dense: init must be", "HeNormal(...)"]),
        (lambda: fn.Dropout(jnp.asarray(0.5)), ["rate", "arrays cannot be"]),
        (lambda: fn.Chain(fn.Dense(2, 3), fn.Tanh), ["layers[1]", "must be a layer", "Tanh(...)"]),
        (lambda: fn.Chain(jnp.tanh), ["layers[0]", "must be a layer", "@fn.spec"]),
        (lambda: fn.Chain([fn.Tanh()]), ["layers[0]", "must be a layer"]),
        (lambda: fn.Residual(3), ["layer must be a layer", "3 (int)"]),
        (lambda: fn.L2("strong"), ["L2", "strength", "a number"]),
    ],
)
def test_what_a_field_cannot_hold_is_refused_with_the_reason(build, fragments):
    with pytest.raises(TypeError) as error:
        build()
    for fragment in fragments:
        assert fragment in str(error.value)


def test_values_out_of_their_range_are_refused():
    for build, fragment in [
        (lambda: fn.Dropout(float("nan")), "finite"),
        (lambda: fn.Huber(float("inf")), "finite"),
        (lambda: fn.L2(float("nan")), "0 or more"),
    ]:
        with pytest.raises(ValueError, match=fragment):
            build()


def test_declared_types_that_cannot_be_held_are_refused_when_the_class_is_made():
    for kind in (list, dict, jax.Array, object, tuple[list, ...]):
        cls = type("Holder", (), {"__annotations__": {"field": kind}})
        with pytest.raises(TypeError, match=r"Holder.field: a spec cannot hold"):
            fn.spec(cls)
    lost = type("Lost", (), {"__annotations__": {"field": "NoSuchName"}})
    with pytest.raises(TypeError, match="Lost: cannot read the field types"):
        fn.spec(lost)


def test_a_spec_of_ones_own():
    @fn.spec
    class Mixed:
        name: str
        pair: tuple[int, float]
        maybe: int | None = None
        loss: fn.Loss = fn.SquaredError()

        def __post_init__(self):
            if not self.name:
                raise ValueError("name is empty")

    made = Mixed("a", [1, 2])
    assert repr(made) == "Mixed('a', (1, 2.0))"
    assert repr(Mixed("a", (1, 2), maybe=3)) == "Mixed('a', (1, 2.0), maybe=3)"
    assert fn.from_json(fn.to_json(made), layers=[Mixed]) == made
    with pytest.raises(ValueError, match="name is empty"):
        Mixed("", (1, 2))
    with pytest.raises(TypeError, match=r"maybe must be an int or None"):
        Mixed("a", (1, 2), maybe=0.5)
    with pytest.raises(TypeError, match=r"pair must be tuple\[int, float\]"):
        Mixed("a", (1, 2, 3))


def test_a_subclass_needs_its_own_decorator():
    class Wider(Scale):
        pass

    with pytest.raises(TypeError, match="Put @fn.spec on the class Wider"):
        fn.Chain(Wider(3))
    with pytest.raises(TypeError, match="Put @fn.spec on the class"):
        fn.init(Wider(3), jax.random.key(0))


def test_a_layer_that_is_no_spec_is_refused():
    class Plain:
        init = forward = backward = gradient = lambda self: None

    with pytest.raises(TypeError, match="Put @fn.spec on the class Plain"):
        fn.Chain(Plain())


def test_leaves_may_be_traced_and_pass_through_jit():
    @fn.spec
    class Weighted:
        strength: ArrayLike
        power: int = 2

    made = jax.jit(lambda spec: spec)(Weighted(3.0))
    assert float(made.strength) == 3.0
    assert made.power == 2
    assert jax.tree.structure(Weighted(1.0)) == jax.tree.structure(Weighted(2.0))
    assert jax.tree.structure(Weighted(1.0)) != jax.tree.structure(Weighted(1.0, power=3))


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("not json", "not JSON"),
        ("[1, 2]", "expected a spec"),
        ("3", "expected a spec"),
        ('{"os.system": {"command": "true"}}', "unknown name 'os.system'"),
        ('{"mlp": {}}', "unknown name 'mlp'"),
        ('{"spec": {}}', "unknown name 'spec'"),
        ('{"Scale": {"n": 3}}', "hand it in"),
        ('{"Dense": {"n_in": 2}}', "has the fields"),
        ('{"Tanh": {"slope": 2}}', "has the fields"),
        ('{"Tanh": 3}', "expected {name"),
        ('{"Tanh": {}, "Sigmoid": {}}', "expected {name"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_json_that_is_not_a_spec_is_refused(text, fragment):
    with pytest.raises(ValueError, match=fragment):
        fn.from_json(text)


def test_json_is_checked_as_the_constructor_checks():
    with pytest.raises(TypeError, match="n_in must be an int"):
        fn.from_json(fn.to_json(fn.Dense(2, 3)).replace("2", '"2"', 1))
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        fn.from_json(fn.to_json(fn.Dense(2, 3)).replace('"n_in": 2', '"n_in": 0'))


def test_json_of_what_cannot_be_written_is_refused():
    with pytest.raises(TypeError, match="expected a spec"):
        fn.to_json(3)
    with pytest.raises(TypeError, match="one concrete number"):
        fn.to_json(fn.L2(jnp.arange(3.0)))
    with pytest.raises(TypeError, match="one concrete number"):
        jax.jit(lambda s: fn.to_json(fn.L2(s)))(0.1)
    with pytest.raises(TypeError, match="under @fn.spec"):
        fn.from_json('{"Tanh": {}}', layers=[int])
    imposter = fn.spec(type("Dense", (), {"__annotations__": {}}))
    with pytest.raises(ValueError, match="two classes are called Dense"):
        fn.from_json('{"Tanh": {}}', layers=[imposter])


def test_json_holds_every_field():
    text = json.loads(fn.to_json(fn.Dense(2, 3)))
    assert text == {"Dense": {"n_in": 2, "n_out": 3, "bias": True, "initializer": {"GlorotUniform": {}}}}


def test_a_layer_may_be_left_out_where_the_type_says_so():
    @fn.spec
    class Maybe:
        inner: fn.Layer | None = None

    assert Maybe().inner is None
    assert Maybe(fn.Tanh()).inner == fn.Tanh()
    assert repr(Maybe(fn.Tanh())) == "Maybe(Tanh())"


def test_matrices_set_by_hand_may_be_traced():
    net = fn.Dense(1, 1)
    slope = jax.grad(lambda w: fn.predict(net, fn.from_weights(net, [w]), jnp.array([[3.0]]))[0, 0])(jnp.ones((1, 1)))
    assert slope.tolist() == [[3.0]]

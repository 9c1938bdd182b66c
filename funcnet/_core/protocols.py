"""What funcnet asks of a layer, a combinator, a loss, a penalty and an initialiser."""

import typing
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy.typing

ArrayLike: TypeAlias = jax.Array | numpy.typing.ArrayLike
"""What becomes an array: JAX's and NumPy's arrays, numbers, nested lists, pandas' tables."""

Params: TypeAlias = Any
"""A pytree of arrays: a tuple per chain, a dict per leaf layer, `()` where a layer has none."""

Tree: TypeAlias = Any
"""Any pytree of arrays."""


class Layer(Protocol):
    """Four pure functions, side by side in one class under `funcnet.spec`.

    With m examples, `x` is (m, *positions, features), or integers (m, *positions). `funcnet.check_layer` tests the
    laws:

    - a leaf's parameters are a dict of arrays, or `()`; no two leaves share one, and a layer has no state;
    - every array in its tape and deltas has examples first;
    - `backward` and `gradient` are linear in `delta`, and remake nothing of the forward pass from the parameters:
      another learning rule hands in others;
    - the gradient of a batch is the sum of the gradients of its examples;
    - every optional function and attribute tells the truth.

    Optional attributes say more about a layer:

    - `takes`: what its `forward` takes by name beside x, out of "key" (None, one, or (m,) keys) and "segments"
      ((m, T) integers: positions of one segment see each other). A layer that declares nothing and has room for a
      third argument is handed the key, and says `draws = True` if it uses it.
    - `n_in`, `n_out`: numbers of features it takes and gives; `keeps_size = True`: it gives as many as it takes. A
      `Chain` uses them to refuse sizes that do not meet.
    - `by_position = True`: it treats every position as if it were an example, and its tape and deltas have the
      positions behind the examples. Where it is False, positions see each other.
    - `elementwise = True`: each output depends on one input, so `backward` of ones is the slope.
    - `formula`: value and derivative as texts in z and a, such as `("tanh(z)", "1 - a²")`: page and worksheet print it.
    - `vocabulary`: its x holds integers, 0 … vocabulary - 1. Others are refused where they can be seen.
    - `input_parts`: {name: slice of the features that it takes}: `gradient_flow` names what makes them so.
    - `slow_under_vmap = True`: with several sets of parameters at once it is slower than with one after the other.
      `fit_many` then takes its lanes so.
    - `mixes_examples = True`: it breaks the fourth law (batch normalisation in training). Whatever asks for an
      example's own gradient refuses such a layer by name.

    - `causal = True`: no position depends on those behind it. `generate` may then propagate a text that is not whole.

    Two optional functions propagate one position after the other, for `generate`: `step(params, x, cache, place)` gives
    (y, cache) of x (m, features) at position number `place`; `cache(m, length, dtype)` is what it keeps of earlier
    positions, of up to `length`, before the first. A layer that is `by_position` needs neither.

    Other optional functions are cheaper than `gradient` of one example after the other. Each may be None, or return
    None where it does not serve:

    - `example_gradients(tape, deltas)`: the gradient of each example, arrays (m, …);
    - `square_norms(tape, deltas)`: Σ g_i² over the parameters, (m,);
    - `square_sum(tape, deltas)`: Σ_i g_i² entry by entry, like params;
    - `inner(tape, deltas, tape2, deltas2)`: inner products of the gradients of two batches, (m, m');
    - `as_dense(tape, deltas)`: inputs (m, T, a) and signals (m, T, g), whose product over T is the example's gradient
      as a matrix: its rows are `"w"`, flattened to (-1, g). With True as a third, a constant 1 follows every input, and
      its row is `"b"`. Norms, sums and products above and K-FAC's factors follow from it. Integers (m, T) as inputs
      are unit vectors, given by the place of their 1: only the factors follow, and the matrix is the layer's one
      parameter. A layer whose `as_dense` is not None gives the form for all inputs.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> @fn.spec
        ... class Scale:
        ...     n: int
        ...
        ...     def init(self, key):
        ...         return {"g": jnp.ones(self.n)}
        ...
        ...     def forward(self, params, x):
        ...         return params["g"] * x, x
        ...
        ...     def backward(self, params, tape, delta):
        ...         return params["g"] * delta, delta
        ...
        ...     def gradient(self, tape, deltas):
        ...         return {"g": jnp.sum(tape * deltas, axis=range(deltas.ndim - 1))}
        >>> fn.check_layer(Scale(2), {"g": jnp.array([2.0, -3.0])}, jnp.array([[1.0, 4.0], [2.0, 5.0]])).ok
        True
    """

    def __hash__(self) -> int:
        """Specs are values: equal ones hash alike."""

    def init(self, key: jax.Array) -> Params:
        """Starting values of the parameters: a dict of arrays, or `()`."""

    def forward(self, params: Params, x: jax.Array, *args: Any, **kwargs: Any) -> tuple[jax.Array, Tree]:
        """The output `y` and the tape: what `backward` and `gradient` will need of this pass."""

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        """From `delta` = ∂J_i/∂y: ∂J_i/∂x, and the deltas that `gradient` needs (usually `delta` itself)."""

    def gradient(self, tape: Tree, deltas: Tree) -> Tree:
        """Σ_i ∂J_i/∂params, shaped like params."""


class Combinator(Protocol):
    """A layer made of layers. `contract` stands where a leaf layer has `gradient`.

    Its parameters are a tuple with a part for each child, or, around one layer, that layer's. `forward` is handed a
    context as third argument, hands each child its own, `funcnet.child_key(context, i)`, and calls the child by
    `funcnet.layer_forward`. Its deltas are shaped as what `contract` gives for an `f` that returns them.

    Two optional functions: `pull(f, params, tape, delta)` is `backward` and `contract` in one sweep, which keeps no
    deltas: ∂J_i/∂x, and `f(leaf, tape, deltas)` of every leaf. `parts()` yields (name, child, function that takes the
    child's share of a tree like params); without it the children are those in its fields. A stack of layers with
    parameters in front also has `join(parts)`, which puts such shares together again. `step(params, x, cache, place)`
    hands each child its share of the cache, by `layer_step`, and gives (y, cache).

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> @fn.spec
        ... class Half:
        ...     layer: fn.Layer | fn.Combinator
        ...
        ...     def init(self, key):
        ...         return self.layer.init(key)
        ...
        ...     def forward(self, params, x, context=None):
        ...         y, tape = fn.layer_forward(self.layer, params, x, context)
        ...         return y / 2, tape
        ...
        ...     def backward(self, params, tape, delta):
        ...         return self.layer.backward(params, tape, delta / 2)
        ...
        ...     def contract(self, f, *kept):
        ...         return fn.contract(self.layer, f, *kept)
        >>> half = Half(fn.mlp((2, 3, 1)))
        >>> fn.check_layer(half, half.init(jax.random.key(0)), jnp.array([[1.0, 4.0], [2.0, 5.0]])).ok
        True
    """

    def __hash__(self) -> int:
        """Specs are values: equal ones hash alike."""

    def init(self, key: jax.Array) -> Params:
        """The children's parameters."""

    def forward(self, params: Params, x: jax.Array, *args: Any, **kwargs: Any) -> tuple[jax.Array, Tree]:
        """The output and the children's tapes."""

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        """∂J_i/∂x and the children's deltas."""

    def contract(self, f: Callable[..., Tree], *kept: Tree) -> Tree:
        """`f(leaf, *kept)` at every leaf layer, as a tree like params.

        `kept` is tape and deltas of one pass, or of two in turn. A stack puts its axis in front of what `f` gives.
        """


AnyLayer: TypeAlias = Layer | Combinator


@runtime_checkable
class Loss(Protocol):
    """A cost of each example and position, and its derivative.

    `output` and `y` are (m, *positions, features) unless the loss says otherwise of `y`. For curvature
    it may add `hessian_columns(output, y=None)` and `sample(key, output)`: see `funcnet.losses`. `formula`, the cost of
    an output and its derivative as texts in a, y, p (probability) and C (number of outputs), is printed by page and
    worksheet; `class_formula` in p is that of a class.

    Example:
        >>> import funcnet as fn, jax.numpy as jnp
        >>> @fn.spec
        ... class FourthPower:
        ...     def value(self, output, y):
        ...         return jnp.sum((output - y) ** 4, axis=-1)
        ...
        ...     def delta(self, output, y):
        ...         return 4 * (output - y) ** 3
        >>> net, x = fn.Dense(1, 1), jnp.ones((2, 1))
        >>> fn.check_gradients(net, FourthPower(), fn.from_weights(net, [[[2.0]]]), x, 0 * x).ok
        True
    """

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        """Costs (m, *positions), summed over features, in float32 or better."""

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        """∂(cost)/∂output, shaped and typed like output."""


@runtime_checkable
class Penalty(Protocol):
    """A cost of the parameters themselves, added once to J.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> @fn.spec
        ... class FourthPower:
        ...     def value(self, params):
        ...         return sum(jnp.sum(w**4) for w in jax.tree.leaves(params))
        ...
        ...     def gradient(self, params):
        ...         return jax.tree.map(lambda w: 4 * w**3, params)
        >>> net, x = fn.Dense(1, 1), jnp.ones((2, 1))
        >>> params = fn.from_weights(net, [[[2.0]]])
        >>> fn.check_gradients(net, fn.SquaredError(), params, x, x, penalty=FourthPower()).ok
        True
    """

    def value(self, params: Params) -> jax.Array:
        """The scalar that is added to J."""

    def gradient(self, params: Params) -> Tree:
        """Its derivative, shaped like params."""


@runtime_checkable
class Initializer(Protocol):
    """Starting values for a weight matrix.

    Example:
        >>> import funcnet as fn, jax, jax.numpy as jnp
        >>> @fn.spec
        ... class Unit:
        ...     def __call__(self, key, shape, dtype):
        ...         return jnp.eye(*shape, dtype=dtype)
        >>> fn.Dense(2, 2, init=Unit()).init(jax.random.key(0))["w"].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """An array of this shape and type."""


def is_layer_type(kind: Any) -> bool:
    """Whether a declared type means "a layer"."""
    return typing.get_origin(kind) is not tuple and set(typing.get_args(kind) or (kind,)) <= {Layer, Combinator}


def missing_functions(value: object) -> list[str]:
    """Which functions of a layer a value lacks."""
    last = "contract" if callable(getattr(value, "contract", None)) else "gradient"
    return [name for name in ("init", "forward", "backward", last) if not callable(getattr(value, name, None))]

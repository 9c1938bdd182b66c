"""What funcnet asks of a layer, a combinator, a loss, a penalty and an initialiser."""

import typing
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax

Params: TypeAlias = Any
"""A pytree of arrays: a tuple per chain, a dict per leaf layer, `()` where a layer has none."""

Tree: TypeAlias = Any
"""Any pytree of arrays."""


class Layer(Protocol):
    """Four pure functions, side by side in one class under `funcnet.spec`.

    With m examples, `x` is (m, *positions, features). Every array in a leaf layer's tape and
    deltas has examples first; `backward` and `gradient` are linear in `delta`; the gradient of a
    batch is the sum of the gradients of its examples; a layer has no state and shares no
    parameter. `funcnet.check_layer` tests these laws.

    Optional attributes say more about a layer. `draws = True`: its `forward` uses the key.
    `n_in` and `n_out`: numbers of features it takes and gives. `keeps_size = True`: it gives as
    many features as it takes. A `Chain` uses these three to refuse sizes that do not meet.
    `by_position = True`: it treats every position as if it were an example, and its tape and deltas
    have the positions behind the examples; curvature then costs no more for many positions.
    `mixes_examples = True` owns up to breaking the third law (batch normalisation in training):
    whatever asks for an example's own gradient refuses such a layer by name.

    Three optional functions give a cheaper way than `gradient` of one example after the other:
    `square_norms(tape, deltas)`, Σ g_i² over the parameters, (m,); `square_sum(tape, deltas)`,
    Σ_i g_i² entry by entry, like params; `inner(tape, deltas, tape2, deltas2)`, the inner products
    of the gradients of two batches, (m, m'). All in float32 or better.
    """

    def __hash__(self) -> int:
        """Specs are values: equal ones hash alike."""

    def init(self, key: jax.Array) -> Params:
        """Starting values of the parameters: a dict of arrays, or `()`."""

    def forward(self, params: Params, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        """The output `y` and the tape: what `backward` and `gradient` will need of this pass."""

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        """From `delta` = ∂J_i/∂y: ∂J_i/∂x, and the deltas that `gradient` needs (usually `delta` itself)."""

    def gradient(self, tape: Tree, deltas: Tree) -> Tree:
        """Σ_i ∂J_i/∂params, shaped like params."""


class Combinator(Protocol):
    """A layer made of layers. `contract` stands where a leaf layer has `gradient`.

    Its children stand in its fields. It hands each its own key, `funcnet.child_key(key, i)`, and
    contracts each by `funcnet.contract(child, f, tape, deltas)`.
    """

    def __hash__(self) -> int:
        """Specs are values: equal ones hash alike."""

    def init(self, key: jax.Array) -> Params:
        """The children's parameters."""

    def forward(self, params: Params, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, Tree]:
        """The output and the children's tapes."""

    def backward(self, params: Params, tape: Tree, delta: jax.Array) -> tuple[jax.Array, Tree]:
        """∂J_i/∂x and the children's deltas."""

    def contract(self, f: Callable[[Layer, Tree, Tree], Tree], tape: Tree, deltas: Tree) -> Tree:
        """`f(leaf, tape, deltas)` at every leaf layer, as a tree like params."""


AnyLayer: TypeAlias = Layer | Combinator


@runtime_checkable
class Loss(Protocol):
    """A cost of each example and position, and its derivative.

    `output` and `y` are (m, *positions, features) unless the loss says otherwise of `y`. For curvature
    it may add `hessian_columns(output, y=None)` and `sample(key, output)`: see `funcnet.losses`.
    """

    def value(self, output: jax.Array, y: jax.Array) -> jax.Array:
        """Costs (m, *positions), summed over features, in float32 or better."""

    def delta(self, output: jax.Array, y: jax.Array) -> jax.Array:
        """∂(cost)/∂output, shaped and typed like output."""


@runtime_checkable
class Penalty(Protocol):
    """A cost of the parameters themselves, added once to J."""

    def value(self, params: Params) -> jax.Array:
        """The scalar that is added to J."""

    def gradient(self, params: Params) -> Tree:
        """Its derivative, shaped like params."""


@runtime_checkable
class Initializer(Protocol):
    """Starting values for a weight matrix."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """An array of this shape and type."""


def is_layer_type(kind: Any) -> bool:
    """Whether a declared type means "a layer"."""
    return typing.get_origin(kind) is not tuple and set(typing.get_args(kind) or (kind,)) <= {Layer, Combinator}


def missing_functions(value: object) -> list[str]:
    """Which functions of a layer a value lacks."""
    last = "contract" if callable(getattr(value, "contract", None)) else "gradient"
    return [name for name in ("init", "forward", "backward", last) if not callable(getattr(value, name, None))]

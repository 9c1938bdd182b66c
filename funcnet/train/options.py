"""The options of a training in one record: some are static under `jit`, some are arrays."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from funcnet._core import arguments
from funcnet._core.masks import Flags
from funcnet._core.protocols import AnyLayer, ArrayLike, Loss, Penalty
from funcnet.layers.cast import in_type
from funcnet.layers.segment_columns import joined, with_segments
from funcnet.train.metrics import Metric
from funcnet.train.privacy_account import Privacy
from funcnet.train.stopping import EarlyStopping, Limits, limits_of

Pair = tuple[ArrayLike, ArrayLike]  # x, y
DType = jax.typing.DTypeLike


class Data(NamedTuple):
    """Examples, first in each array: on the device, or x a `numpy.memmap` and all three on the host."""

    x: Any
    y: Any
    weights: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["penalty"],
    meta_fields=[
        "net", "loss", "optimizer", "batch_size", "accumulate", "trainable", "compute_dtype", "privacy", "telemetry",
        "metrics", "early_stopping", "non_finite",
    ],
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class Options:
    """The arguments of `fit` under their names: all that concerns an update or what is recorded after an epoch."""

    net: AnyLayer
    loss: Loss
    optimizer: optax.GradientTransformation
    batch_size: int
    accumulate: int = 1
    trainable: Flags | None = None
    penalty: Penalty | None = None
    compute_dtype: DType | None = None
    privacy: Privacy | None = None
    telemetry: int = 0
    metrics: tuple[Metric, ...] = ()
    early_stopping: EarlyStopping | None = None
    non_finite: str = "stop"

    @property
    def cast_net(self) -> AnyLayer:
        """The network in the compute type, for updates. What is recorded after an epoch is computed by `net`."""
        return in_type(self.net, self.compute_dtype)


class Job(NamedTuple):
    """A whole training: what stays the same from epoch to epoch.

    Of the rows of `data` the first `m` are examples, of those of `validation` the first `validation_m`; None: all are.
    """

    options: Options
    data: Data
    validation: Data | None
    m: Any = None
    validation_m: Any = None
    limits: Limits | None = None

    def with_penalty(self, penalty: Penalty | None) -> "Job":
        return self._replace(options=dataclasses.replace(self.options, penalty=penalty))


def check_kinds(options: Options) -> None:
    """Refuse a network, loss, penalty or compute type of the wrong kind; `train.checks` sees whether all fits."""
    arguments.check_layer_functions(options.net)
    arguments.check_loss(options.loss)
    arguments.check_penalty(options.penalty)
    in_type(options.net, options.compute_dtype)


def job_of(options: Options, data: Pair, validation: Sequence[ArrayLike] | None, weights: ArrayLike | None) -> Job:
    """The data as arrays: on the device, or, if x is a `numpy.memmap`, on the host."""
    check_kinds(options)
    plain = options.net
    options, data = in_one_array(options, data)
    limits = limits_of(options.early_stopping) if isinstance(options.early_stopping, EarlyStopping) else None
    x, y = arguments.pair("data", data)
    if isinstance(x, np.memmap):
        examples = Data(x, np.asarray(y), None if weights is None else np.asarray(weights))
    else:
        examples = arrays_of(x, y, weights)
    if validation is None:
        return Job(options, examples, None, limits=limits)
    x, y, validation_weights = examples_of("validation", validation)
    x, segments = arguments.unpacked(x)
    if options.net is not plain:
        x = joined(arguments.as_array("x", x), jnp.ones(np.shape(x)[:2], int) if segments is None else segments)
    elif segments is not None:
        raise ValueError("validation: has segment_ids, and data has none. Give both or neither.")
    return Job(options, examples, arrays_of(x, y, validation_weights), limits=limits)


def arrays_of(x: Any, y: Any, weights: Any) -> Data:
    """Data as JAX's arrays."""
    as_array = arguments.as_array
    return Data(as_array("x", x), as_array("y", y), None if weights is None else as_array("weights", weights))


def in_one_array(options: Options, data: Any) -> tuple[Options, Any]:
    """Options and data where x is a pair (x, segment_ids): one array for both, of a network that takes it."""
    x, y = arguments.pair("data", data)
    x, segments = arguments.unpacked(x)
    net, x = with_segments(options.net, x, segments)
    return dataclasses.replace(options, net=net), (x, y)


def examples_of(name: str, data: Any) -> tuple[Any, Any, Any]:
    """x, y and weights (None if there are none) of a pair or of three."""
    if isinstance(data, tuple | list) and len(data) == 3:
        x, y, weights = data
        return x, y, None if weights is None else arguments.as_array(f"{name}: weights", weights)
    return (*arguments.pair(name, data, "a pair (x, y) or three (x, y, weights)"), None)


def on_host(data: Data) -> bool:
    """Whether data is to be read piece by piece."""
    return isinstance(data.x, np.memmap)

"""What classifier and regressor share: data, network, training, predictions."""

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data

from funcnet._core import arguments
from funcnet._core.protocols import AnyLayer, Loss, Params
from funcnet.parameters import init
from funcnet.penalties import L2
from funcnet.propagation import predict
from funcnet.sklearn.settings import batch_size_of, check_settings, network_of, start_of
from funcnet.sklearn.solvers import REMEDY, Plateau, Trained, minimum, optimizer_of, precision, train, with_rate
from funcnet.train.evaluation import outputs
from funcnet.train.filling import filled
from funcnet.train.metrics import Metric
from funcnet.train.options import Data, Options, job_of
from funcnet.train.programs import Program
from funcnet.train.state import TrainState, train_state


def stored(estimator: Any, values: dict[str, Any]) -> None:
    """A constructor's arguments under their names, as they came: scikit-learn's `clone` wants it so."""
    for name in list(inspect.signature(type(estimator).__init__).parameters)[1:]:
        setattr(estimator, name, values[name])


_init = Program(init)


@Program
def _outputs(net: AnyLayer, params: Params, x: jax.Array) -> jax.Array:
    return outputs(net, params, x)


def has_epochs(estimator: Any) -> bool:
    """Whether `partial_fit` is there."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit: solver='lbfgs' has no epochs. Use solver='adam' or 'sgd'.")
    return True


def _seed(draw: Any) -> int:
    return int(draw.randint(2**31 - 1))


ROWS: list[int] = []  # that tables to learn from were filled up to


def rows_for(m: int) -> int:
    """Rows that m are filled up to: as for the first table of nearly as many, so that folds share a program.

    Without one it is a round number, with room for one row more, as the next fold may have. The first that suits m
    stays the first, so equal fits give equal bits.
    """
    near = next((rows for rows in ROWS if m <= rows <= m + _step(m)), None)
    if near is None:
        ROWS.append(near := _rounded(m + 1))
    return near


def _step(m: int) -> int:
    """A sixteenth of a power of two, 16 or more."""
    return max(16, 2 ** (m.bit_length() - 4))


def _rounded(m: int) -> int:
    return -(-m // _step(m)) * _step(m)


def _filled_up(data: Data) -> Data:
    """Data with rows of weight 0 behind, so that tables of nearly as many rows share a program."""
    m, rows = len(data.x), rows_for(len(data.x))
    weights = np.zeros(rows, data.x.dtype if np.issubdtype(data.x.dtype, np.floating) else np.float32)
    weights[:m] = 1 if data.weights is None else data.weights
    x, y = filled((data.x, data.y), rows)
    return Data(x, y, jnp.asarray(weights))


class Estimator(BaseEstimator):  # type: ignore[misc]
    """A network that is trained by `fit` and `partial_fit`. What it learns has names that end in an underscore."""

    net_: AnyLayer
    params_: Params
    n_outputs_: int
    t_: int
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on a table and its targets.

        Args:
            X: (m, features), of numbers; rows of a sparse matrix are made dense. With `net` whatever it takes.
            y: (m,), or (m, outputs).
            sample_weight: (m,), how much each row counts.

        Returns:
            The estimator itself.

        Raises:
            TypeError, ValueError: arguments of the constructor that cannot be had; data that scikit-learn refuses; a
                cost that stopped being finite.
        """
        return self._learned(X, y, sample_weight)

    def _learned(self, X: Any, y: Any, sample_weight: Any, one_epoch: bool = False, classes: Any = None) -> Any:
        check_settings(self, one_epoch)
        fresh = not (hasattr(self, "params_") and (one_epoch or self.warm_start))
        X, y = self._checked(X, y, reset=fresh)
        weights = self._weights(X, y, sample_weight, one_epoch)
        sizes, draw = self._sizes(y, fresh, classes), check_random_state(self.random_state)
        dtype = X.dtype if np.issubdtype(X.dtype, np.floating) else np.dtype(np.float32)
        with precision(dtype if fresh else self._dtype):
            if fresh:
                self._begin(X, sizes, dtype, draw)
            data = Data(self._typed(X), self._targets(y), weights)
            if self.solver == "lbfgs":
                self._minimise(data)
            else:
                self._train(data, y, one_epoch, draw)
        return self

    def _begin(self, X: np.ndarray, sizes: Sequence[int], dtype: Any, draw: Any) -> None:
        """A new network at its start."""
        if self.net is None:
            self.net_ = network_of(self, X.shape[1], sizes[0])
            start = start_of(self.net_, self.activation, draw)
        else:
            self.net_ = self.net
            arguments.refuse_mixing(self.net_)
            start = _init(self.net_, jax.random.key(_seed(draw)))
        self.params_ = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), start)
        x = self._typed(X[:1])
        self.n_outputs_ = jax.eval_shape(lambda x: predict(self.net_, self.params_, x), x).shape[-1]
        if self.n_outputs_ not in sizes:
            what = f"{self.n_outputs_} outputs, but y needs {' or '.join(map(str, sizes))}"
            raise ValueError(f"net: {self.net_} gives {what}. Change its last layer.")
        self.t_, self.loss_curve_, self.best_loss_ = 0, [], np.inf
        self.validation_scores_ = self.best_validation_score_ = None
        self._opt_state = None

    def _train(self, data: Data, labels: np.ndarray, one_epoch: bool, draw: Any) -> None:
        """SGD or Adam, for some epochs."""
        validation = None
        if self.early_stopping:
            data, validation = self._split(data, labels, draw)
        m, size = len(data.x), batch_size_of(self, len(data.x))
        if self.batch_size != "auto" and self.batch_size > m:
            warnings.warn(f"batch_size: {self.batch_size} is more than the {m} examples; all are taken.", stacklevel=4)
        if not self.shuffle and size < m:
            raise ValueError(
                "shuffle: False is not supported for several batches: each epoch has an order of its own. Use "
                "shuffle=True, or a batch_size of all examples."
            )
        decay = (self.momentum,) if self.solver == "sgd" else (self.beta_1, self.beta_2, self.epsilon)
        optimizer = optimizer_of(self.solver, tuple(map(float, decay)), bool(self.nesterovs_momentum))
        state = self._state(optimizer, m, -(-m // size), one_epoch, jax.random.key(_seed(draw)))
        metrics = () if validation is None else (self._metric(),)
        penalty = self._penalty(size, data.weights)
        if size == m:
            data, size = _filled_up(data), rows_for(m)
        options = Options(self.net_, self._loss(), optimizer, size, penalty=penalty, metrics=metrics)
        job = job_of(options, (data.x, data.y), validation, data.weights)
        watched = f"validation_{metrics[0].name}" if metrics else "cost"
        known = self.best_loss_ if validation is None else self.best_validation_score_
        best = np.inf if known is None else known if validation is None else -known
        rule = Plateau(self.tol, self.n_iter_no_change, best)
        adaptive = (self.solver, self.learning_rate) == ("sgd", "adaptive")
        epochs = 1 if one_epoch else int(self.max_iter)
        trained = train(job, state, epochs, rule, watched, adaptive, self._printed if self.verbose else None)
        self._learned_from(trained, watched, m, rule.best)
        if not trained.has_ended and not one_epoch:
            warnings.warn(
                f"max_iter: {self.max_iter} epochs were not enough to converge. Raise it, or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _state(
        self, optimizer: optax.GradientTransformation, m: int, steps: int, one_epoch: bool, key: jax.Array
    ) -> TrainState:
        """Where the epochs begin: parameters, the optimiser, which `partial_fit` leaves as it is, the learning rate."""
        state = train_state(optimizer, jax.tree.map(jnp.asarray, self.params_), key)
        if one_epoch and self._opt_state is not None:
            state = state._replace(opt_state=jax.tree.map(jnp.asarray, self._opt_state))
        falling = self.power_t if (self.solver, self.learning_rate) == ("sgd", "invscaling") else 0.0
        numbers = {"start": self.learning_rate_init, "power": falling, "seen": self.t_, "rows": m}
        rate = {name: jnp.asarray(number, jnp.zeros(()).dtype) for name, number in numbers.items()}
        rate |= {name: jnp.asarray(count, jnp.int32) for name, count in {"steps": steps, "step": 0}.items()}
        return state._replace(opt_state=with_rate(state.opt_state, **rate))

    def _learned_from(self, trained: Trained, watched: str, m: int, best: float) -> None:
        """Keep what was learned, in NumPy's arrays, which can be pickled."""
        costs = trained.columns["cost"]
        self.params_ = jax.tree.map(np.asarray, trained.best)
        self._opt_state = jax.tree.map(np.asarray, trained.state.opt_state)
        self.n_iter_, self.t_ = len(costs), self.t_ + m * len(costs)
        self.loss_curve_ = [*self.loss_curve_, *costs]
        self.loss_ = self.loss_curve_[-1] if self.loss_curve_ else np.nan  # interrupted at once
        if watched == "cost":
            self.best_loss_, self.validation_scores_, self.best_validation_score_ = best, None, None
        else:
            self.validation_scores_ = [*(self.validation_scores_ or ()), *trained.columns[watched]]
            self.best_loss_, self.best_validation_score_ = None, -best

    def _minimise(self, data: Data) -> None:
        """L-BFGS on all examples."""
        penalty, see = self._penalty(len(data.x), data.weights), None
        if self.verbose:
            costs: list[float] = []

            def see(cost: float) -> None:
                costs.append(cost)
                self._printed(len(costs), {"cost": cost})

        found = minimum(
            self.net_, self._loss(), self.params_, _filled_up(data), penalty, iterations=self.max_iter,
            evaluations=self.max_fun, tol=self.tol, see=see,
        )  # fmt: skip
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found.params, found.cost))):
            raise ValueError(f"The cost or a parameter stopped being finite. {REMEDY}")
        self.params_, self.loss_, self.n_iter_ = found.params, found.cost, found.iterations
        self.best_loss_ = found.cost
        if found.trouble:
            warnings.warn(f"L-BFGS did not converge: {found.trouble}.", ConvergenceWarning, stacklevel=4)

    def _printed(self, epoch: int, row: dict[str, float]) -> None:
        scores = [
            f"  validation score {value:.6f}"
            for name, value in row.items()
            if name.startswith("validation_") and name != "validation_cost"
        ]
        print(f"Iteration {epoch}, loss = {row['cost']:.8f}{''.join(scores)}")

    def _checked(self, X: Any, y: Any = "no_validation", reset: bool = False) -> Any:
        """The data as scikit-learn checks them, dense."""
        kinds = (np.float64, np.float32) if self.net is None else "numeric"
        options = {"accept_sparse": ["csr", "csc"], "dtype": kinds, "allow_nd": self.net is not None, "reset": reset}
        if isinstance(y, str):
            X = validate_data(self, X, **options)
            return X.toarray() if issparse(X) else X
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=not is_classifier(self), **options)
        y = y.toarray() if issparse(y) else y
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        return X.toarray() if issparse(X) else X, y

    @property
    def _dtype(self) -> np.dtype[Any]:
        return next((leaf.dtype for leaf in jax.tree.leaves(self.params_)), np.dtype(np.float64))

    def _typed(self, X: np.ndarray) -> np.ndarray:
        """X in the type in which the network takes it: the parameters', or integers, if these are tokens."""
        if np.issubdtype(X.dtype, np.floating):
            return X.astype(self._dtype, copy=False)
        return X.astype(arguments.input_type(self.net_, self.params_, X))

    def _raw(self, X: Any) -> np.ndarray:
        """The network's outputs."""
        check_is_fitted(self)
        x = self._checked(X)
        with precision(self._dtype):
            x = self._typed(x)
            return np.asarray(_outputs(self.net_, self.params_, filled(x, _rounded(len(x)))))[: len(x)]

    def _weights(self, X: np.ndarray, y: np.ndarray, sample_weight: Any, one_epoch: bool) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if not weights.any():
            raise ValueError("sample_weight: all are 0, so nothing can be learned. Give one or more above 0.")
        return weights

    def _penalty(self, size: int, weights: np.ndarray | None) -> L2 | None:
        """scikit-learn's alpha: ½ α Σ w² / (the batch's weight)."""
        if not (self._leaves("w") or self._leaves("u")):
            return None
        return L2(float(self.alpha / (2 * size * (1 if weights is None else float(weights.mean())))))

    def _split(self, data: Data, labels: np.ndarray, draw: Any) -> tuple[Data, Any]:
        """Data to train on and to validate with."""
        held_out = int(np.ceil(self.validation_fraction * len(data.x)))
        if held_out < 2:
            raise ValueError(
                f"validation_fraction: {self.validation_fraction} of {len(data.x)} examples leaves {held_out} to "
                "validate with, expected 2 or more. Raise it, or use more examples."
            )
        rows = train_test_split(
            np.arange(len(data.x)),
            random_state=draw,
            test_size=self.validation_fraction,
            stratify=labels if is_classifier(self) and labels.ndim == 1 else None,
        )
        kept, held = (Data(*(None if part is None else part[some] for part in data)) for some in rows)
        return kept, held if held.weights is not None else held[:2]

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The weights w of every layer that has them, (from, to)."""
        return self._leaves("w")

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The biases b of every layer that has them."""
        return self._leaves("b")

    @property
    def n_layers_(self) -> int:
        """Layers of units, the input's among them."""
        return len(self.coefs_) + 1

    def _leaves(self, name: str) -> list[np.ndarray]:
        return [
            leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.params_)
            if path and getattr(path[-1], "key", None) == name
        ]

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _metric(self) -> Metric:
        raise NotImplementedError

    def _sizes(self, y: np.ndarray, fresh: bool, classes: Any) -> Sequence[int]:
        """How many outputs the network may have, the usual number first."""
        raise NotImplementedError

    def _targets(self, y: np.ndarray) -> np.ndarray:
        raise NotImplementedError

"""`MLPRegressor`, as scikit-learn has it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.metaestimators import available_if

from funcnet._core import arguments
from funcnet._core.protocols import Loss
from funcnet.losses import SquaredError
from funcnet.sklearn.estimator import Estimator, has_epochs, stored
from funcnet.train.metrics import R2, Metric


class MLPRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A network that learns numbers, with scikit-learn's arguments, attributes and rules.

    It minimises the mean of ½ Σ (a - y)², summed over the outputs, plus ½ α Σ w² / (examples in a batch). The rest is
    as for `MLPClassifier`.

    Args:
        loss: "squared_error", or a loss of funcnet's or your own, such as `fn.Huber()`; `predict` gives the outputs.
        hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter,
            shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping,
            validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, net: as for
            `MLPClassifier`; early stopping watches R².

    Attributes:
        coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_, n_iter_,
            n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: scikit-learn's.
        net_, params_: the network and its parameters, for the rest of funcnet.

    Raises:
        ImportError: scikit-learn is not installed.

    Source: scikit-learn's `MLPRegressor`, whose rules these are.

    Example:
        >>> from funcnet.sklearn import MLPRegressor
        >>> X = [[0.0], [1.0], [2.0], [3.0]]
        >>> net = MLPRegressor(hidden_layer_sizes=(), solver="lbfgs", alpha=0.0, random_state=0).fit(X, [1, 3, 5, 7])
        >>> print(f"{net.predict([[4.0]])[0]:.3f}")
        9.000
    """

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        net: Any = None,
    ) -> None:
        stored(self, locals())

    @available_if(has_epochs)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """One epoch more, on these data, with the optimiser as it was.

        Args:
            X, y, sample_weight: as for `fit`.

        Returns:
            The estimator itself.

        Raises:
            ValueError: another number of outputs; what `fit` refuses.
        """
        return self._learned(X, y, sample_weight, one_epoch=True)

    def predict(self, X: Any) -> np.ndarray:
        """The outputs for each row, (m,), or (m, outputs) if there are several."""
        output = self._raw(X)
        return output[:, 0] if self.n_outputs_ == 1 else output

    @property
    def out_activation_(self) -> str:
        """What makes predictions of the outputs: nothing."""
        self.net_  # noqa: B018 — there is none before `fit`
        return "identity"

    def _sizes(self, y: np.ndarray, fresh: bool, classes: Any) -> Sequence[int]:
        n = 1 if y.ndim == 1 else y.shape[1]
        if not fresh and n != self.n_outputs_:
            raise ValueError(f"y: expected {self.n_outputs_} outputs, as in the first call, got {n}.")
        return (n,)

    def _loss(self) -> Loss:
        if isinstance(self.loss, str):
            if self.loss != "squared_error":
                raise ValueError(
                    f'loss: expected "squared_error", or a loss such as fn.Huber(), got {self.loss!r}. Another is a '
                    "class under @fn.spec."
                )
            return SquaredError()
        arguments.check_loss(self.loss)
        return self.loss

    def _metric(self) -> Metric:
        return R2()

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y.reshape(len(y), -1).astype(self._dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

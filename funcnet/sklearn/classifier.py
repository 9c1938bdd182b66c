"""`MLPClassifier`, as scikit-learn has it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from funcnet._core.numerics import accumulation_type
from funcnet._core.protocols import Loss
from funcnet._core.specs import spec
from funcnet._core.weighting import reduced
from funcnet.losses import BinaryCrossEntropy, CrossEntropy
from funcnet.sklearn.estimator import Estimator, has_epochs, stored
from funcnet.train.metrics import Accuracy, Metric


@spec
class AllRight:
    """The share of examples all of whose answers are right: scikit-learn's accuracy of several labels."""

    larger_is_better = True
    name = "accuracy"

    def value(self, output: jax.Array, y: jax.Array, weights: jax.Array | None) -> jax.Array:
        right = ((output > 0) == (y > 0.5)).all(-1)
        return reduced(right.astype(accumulation_type(output.dtype)), weights, "mean")


class MLPClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A network that learns classes, with scikit-learn's arguments, attributes and rules.

    It minimises the mean cross-entropy plus ½ α Σ w² / (examples in a batch), trained by `fit`'s compiled loop in the
    type of X: float64 as scikit-learn does, or float32, which is faster. Two classes have one output, of
    the logit of the second; labels of any kind are kept in `classes_`; y of 0 and 1, (m, labels), is several labels for
    each example. Tables of nearly as many rows, as folds are, share one compiled program, whatever alpha and learning
    rate.

    Args:
        hidden_layer_sizes: units of each hidden layer.
        activation: of the hidden layers, "relu", "tanh", "logistic", "identity", or a layer such as `fn.GELU()`.
        solver: "adam", "sgd", or "lbfgs": SciPy's, on all examples at once, for small tables.
        alpha: the penalty's strength; here it is `fn.L2(alpha / (2 * batch_size))`.
        batch_size: "auto" takes min(200, examples).
        learning_rate: of "sgd": "constant"; "invscaling", learning_rate_init / (examples seen + 1)^power_t; "adaptive",
            a fifth whenever there is no progress.
        learning_rate_init, power_t, momentum, nesterovs_momentum, beta_1, beta_2, epsilon: of the solvers.
        max_iter: epochs, or iterations of "lbfgs"; max_fun: evaluations of the cost for "lbfgs".
        shuffle: False only where one batch takes all examples: an epoch has an order of its own.
        random_state: seed of weights, order, dropout, and of what is held out.
        tol, n_iter_no_change: no progress by tol for so many epochs ends the training.
        verbose: print the cost of every epoch.
        warm_start: `fit` goes on from what is learned.
        early_stopping, validation_fraction: hold out so much, watch the accuracy there, keep the best parameters.
        class_weight: None, "balanced", or a dict from class to weight.
        dropout: rate at which hidden units are left out while training.
        net: a network to train in place of the one that `hidden_layer_sizes` and `activation` build, of any layers; X
            is then what it takes. Its last layer gives logits: of each class, or one for two classes.

    Attributes:
        classes_, coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_,
            n_iter_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_: scikit-learn's.
        net_, params_: the network and its parameters, for the rest of funcnet.

    Raises:
        ImportError: scikit-learn is not installed.

    Source: scikit-learn's `MLPClassifier`, whose rules these are.

    Example:
        >>> from funcnet.sklearn import MLPClassifier
        >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["same", "other", "other", "same"]
        >>> net = MLPClassifier(4, "tanh", solver="lbfgs", random_state=1).fit(X, y)
        >>> net.predict([[0.0, 1.0], [1.0, 1.0]]).tolist()
        ['other', 'same']
    """

    def __init__(
        self,
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
        class_weight: Any = None,
        dropout: float = 0.0,
        net: Any = None,
    ) -> None:
        stored(self, locals())

    @available_if(has_epochs)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """One epoch more, on these data, with the optimiser as it was.

        Args:
            X, y, sample_weight: as for `fit`.
            classes: all classes that there will be; needed at the first call, unless it is several labels.

        Returns:
            The estimator itself.

        Raises:
            ValueError: no classes at the first call, or a class that is not among them; what `fit` refuses.
        """
        if classes is None and not hasattr(self, "classes_") and not type_of_target(y).startswith("multilabel"):
            raise ValueError("classes: the first call of partial_fit needs all classes, such as classes=np.unique(y).")
        if classes is not None and hasattr(self, "classes_") and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_}, got {classes}.")
        return self._learned(X, y, sample_weight, one_epoch=True, classes=classes)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row, (m,); of several labels 0 or 1 for each, (m, labels)."""
        output = self._raw(X)
        if self._is_multilabel:
            return (output > 0).astype(int)
        best = (output[:, 0] > 0).astype(int) if self.n_outputs_ == 1 else output.argmax(-1)
        return self.classes_[np.minimum(best, len(self.classes_) - 1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, (m, classes), in the order of `classes_`; or of each of several labels."""
        output = self._raw(X)
        if self._is_multilabel:
            return expit(output)
        if self.n_outputs_ > 1:
            return softmax(output, -1)
        return np.concatenate([expit(-output), expit(output)], -1)[:, : len(self.classes_)]

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`, exact where that is 0 or 1."""
        output = self._raw(X)
        if self._is_multilabel:
            return log_expit(output)
        if self.n_outputs_ > 1:
            return log_softmax(output, -1)
        return np.concatenate([log_expit(-output), log_expit(output)], -1)[:, : len(self.classes_)]

    @property
    def out_activation_(self) -> str:
        """What makes probabilities of the outputs."""
        return "softmax" if isinstance(self._loss(), CrossEntropy) else "logistic"

    def _sizes(self, y: np.ndarray, fresh: bool, classes: Any) -> Sequence[int]:
        check_classification_targets(y)
        multilabel = type_of_target(y).startswith("multilabel")
        here = np.arange(y.shape[1]) if multilabel else np.unique(y)
        if fresh:
            self._is_multilabel = multilabel
            self.classes_ = here if multilabel or classes is None else np.unique(classes)
        if multilabel != self._is_multilabel or not np.isin(here, self.classes_).all():
            raise ValueError(f"y: expected the classes {self.classes_} of the first call, got {here}.")
        if not fresh and self.warm_start and len(here) != len(self.classes_):
            raise ValueError(f"y: warm_start goes on with the classes {self.classes_}, got {here}.")
        if multilabel:
            return (len(here),)
        return (len(self.classes_),) if len(self.classes_) > 2 else (1, 2)

    def _weights(self, X: np.ndarray, y: np.ndarray, sample_weight: Any, one_epoch: bool) -> np.ndarray | None:
        weights = super()._weights(X, y, sample_weight, one_epoch)
        if self.class_weight is None:
            return weights
        if not isinstance(self.class_weight, Mapping | list) and self.class_weight != "balanced":
            raise ValueError(
                f'class_weight: expected "balanced" or a dict from class to weight, got {self.class_weight!r}.'
            )
        if one_epoch and self.class_weight == "balanced":
            raise ValueError(
                'class_weight: "balanced" needs all data, and partial_fit sees a part. Give a dict, or sample_weight.'
            )
        by_class = compute_sample_weight(self.class_weight, y)
        return by_class if weights is None else weights * by_class

    def _loss(self) -> Loss:
        return BinaryCrossEntropy() if self._is_multilabel or self.n_outputs_ == 1 else CrossEntropy()

    def _metric(self) -> Metric:
        return AllRight() if self._is_multilabel else Accuracy()

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if self._is_multilabel:
            return y.astype(self._dtype)
        number = np.searchsorted(self.classes_, y)
        return number[:, None].astype(self._dtype) if self.n_outputs_ == 1 else number.astype(np.int32)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.sparse = True
        return tags

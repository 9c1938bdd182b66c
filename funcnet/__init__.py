"""funcnet: feed-forward networks whose backward pass is written by hand and returned as a value."""

from funcnet.backprop import Backprop, backprop, backward, cost, forward, gradient, predict, value_and_grad
from funcnet.check import check_function, check_gradients, check_layer
from funcnet.curvature import KroneckerPair, empirical_fisher_diagonal, ggn_diagonal, kronecker_factors
from funcnet.custom_vjp import as_cost, as_function
from funcnet.explain import (
    Diagnosis,
    Verdict,
    diagnose,
    explain,
    explain_page,
    factor_counts,
    plot_confusion,
    plot_cost_surface,
    plot_decision_regions,
    plot_gradient_flow,
    plot_gradient_norms,
    plot_weights,
    summary,
    worksheet,
)
from funcnet.flow import gradient_flow
from funcnet.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    Uniform,
    Zeros,
)
from funcnet.keys import child_key
from funcnet.kfac import KfacState, scale_by_kfac
from funcnet.layers import (
    ELU,
    GELU,
    SELU,
    Chain,
    Dense,
    Dropout,
    FeedbackAlignment,
    Identity,
    LayerNorm,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Residual,
    Sigmoid,
    SignSymmetric,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    contract,
    mlp,
)
from funcnet.losses import AbsoluteError, BinaryCrossEntropy, CrossEntropy, Huber, LogCosh, SquaredError
from funcnet.model_file import load_model, save_model
from funcnet.noise import gradient_moments, noise_scale
from funcnet.parameters import from_weights, init
from funcnet.penalties import L1, L2, ElasticNet
from funcnet.per_example import (
    example_cosines,
    example_gradients,
    example_gram,
    example_square_norms,
    weighted_gradient,
)
from funcnet.privacy import clipped_gradient, private_gradient
from funcnet.protocols import Combinator, Initializer, Layer, Loss, Params, Penalty
from funcnet.serialization import from_json, to_json
from funcnet.spec import spec
from funcnet.train import (
    F1,
    R2,
    Accuracy,
    Checkpoint,
    EarlyStopping,
    History,
    MeanAbsoluteError,
    Metric,
    Privacy,
    TopK,
    Trainings,
    TrainState,
    class_weights,
    fit,
    fit_many,
    noise_multiplier,
    train_epoch,
    train_state,
)

__all__ = [
    # networks
    "mlp", "Chain", "Dense", "Residual", "Dropout", "LayerNorm",
    "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus",
    "Softmax", "LogSoftmax", "Identity", "FeedbackAlignment", "SignSymmetric",
    # what they are trained on
    "SquaredError", "AbsoluteError", "Huber", "LogCosh", "CrossEntropy", "BinaryCrossEntropy",
    "L1", "L2", "ElasticNet",
    # parameters
    "init", "from_weights",
    "Uniform", "GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunNormal", "Zeros", "Constant",
    # forward and backward propagation
    "predict", "forward", "backward", "gradient", "cost", "value_and_grad", "backprop", "Backprop",
    "as_function", "as_cost",
    "check_gradients", "check_layer", "check_function",
    # of each example, from one backward pass
    "weighted_gradient", "example_gradients", "example_square_norms", "example_gram", "example_cosines",
    "gradient_moments", "noise_scale", "gradient_flow", "clipped_gradient", "private_gradient",
    # curvature
    "ggn_diagonal", "empirical_fisher_diagonal", "kronecker_factors", "KroneckerPair", "scale_by_kfac", "KfacState",
    # to see it
    "explain", "explain_page", "factor_counts", "worksheet", "summary",
    "diagnose", "Diagnosis", "Verdict",
    "plot_cost_surface", "plot_gradient_flow", "plot_gradient_norms",
    "plot_weights", "plot_decision_regions", "plot_confusion",
    # training
    "fit", "fit_many", "train_state", "train_epoch",
    "TrainState", "History", "Trainings", "EarlyStopping", "Checkpoint", "class_weights",
    "Privacy", "noise_multiplier",
    "Metric", "Accuracy", "TopK", "F1", "R2", "MeanAbsoluteError",
    # specs of your own
    "spec", "Layer", "Combinator", "Loss", "Penalty", "Initializer", "Params", "contract", "child_key",
    "to_json", "from_json", "save_model", "load_model",
]  # fmt: skip

"""funcnet: feed-forward networks whose backward pass is written by hand and returned as a value."""

from funcnet.backprop import Backprop, backprop, backward, cost, forward, gradient, predict, value_and_grad
from funcnet.check import check_function, check_gradients, check_layer
from funcnet.custom_vjp import as_cost, as_function
from funcnet.explain import explain, explain_page, factor_counts, summary, worksheet
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
from funcnet.layers import (
    ELU,
    GELU,
    SELU,
    Chain,
    Dense,
    Dropout,
    Identity,
    LayerNorm,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Residual,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    contract,
    mlp,
)
from funcnet.losses import AbsoluteError, BinaryCrossEntropy, CrossEntropy, Huber, LogCosh, SquaredError
from funcnet.model_file import load_model, save_model
from funcnet.parameters import from_weights, init
from funcnet.penalties import L1, L2, ElasticNet
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
    TopK,
    Trainings,
    TrainState,
    class_weights,
    fit,
    fit_many,
    train_epoch,
    train_state,
)

__all__ = [
    # networks
    "mlp", "Chain", "Dense", "Residual", "Dropout", "LayerNorm",
    "Sigmoid", "Tanh", "ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Softplus",
    "Softmax", "LogSoftmax", "Identity",
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
    # to see it
    "explain", "explain_page", "factor_counts", "worksheet", "summary",
    # training
    "fit", "fit_many", "train_state", "train_epoch",
    "TrainState", "History", "Trainings", "EarlyStopping", "Checkpoint", "class_weights",
    "Metric", "Accuracy", "TopK", "F1", "R2", "MeanAbsoluteError",
    # specs of your own
    "spec", "Layer", "Combinator", "Loss", "Penalty", "Initializer", "Params", "contract", "child_key",
    "to_json", "from_json", "save_model", "load_model",
]  # fmt: skip

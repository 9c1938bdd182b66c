"""Layers and the combinators that build networks from them."""

from funcnet.layers.activations import (
    ELU,
    GELU,
    SELU,
    Identity,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from funcnet.layers.combinators import Chain, Residual, contract, mlp
from funcnet.layers.dense import Dense
from funcnet.layers.dropout import Dropout
from funcnet.layers.feedback import FeedbackAlignment, SignSymmetric
from funcnet.layers.norm import LayerNorm

__all__ = [
    "Dense",
    "Sigmoid",
    "Tanh",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "SELU",
    "GELU",
    "SiLU",
    "Softplus",
    "Softmax",
    "LogSoftmax",
    "Identity",
    "Dropout",
    "LayerNorm",
    "Chain",
    "Residual",
    "FeedbackAlignment",
    "SignSymmetric",
    "mlp",
    "contract",
]

"""funcnet: feed-forward networks whose backward pass is written by hand and returned as a value.

The public names by what one comes for. `help(funcnet.fit)` and the like hold formulas, shapes and an example each; the
first example is in the README. In signatures ArrayLike is what becomes an array (JAX's and NumPy's, numbers, nested
lists, pandas' tables), Tree any pytree of arrays.

Build a network:
    - whole: `mlp`, and `gpt`, a transformer
    - of layers: `Chain` one after the other, `Parallel` side by side, `Residual` around, `Repeat` over and over
    - every input to every unit: `Dense`
    - activations: `Sigmoid`, `Tanh`, `ReLU`, `LeakyReLU`, `ELU`, `SELU`, `GELU`, `SiLU`, `Softplus`, `Softsign`,
      `Softmax`, `LogSoftmax`, `Identity`
    - norms: `LayerNorm`, `RMSNorm`, `GroupNorm`, `FrozenBatchNorm`
    - against overfitting: `Dropout`, and the penalties below
    - for less memory: `Remat`

Images:
    - convolutions: `Conv`, `ConvTranspose`
    - pools: `MaxPool`, `AvgPool`, `GlobalAveragePool`; before a Dense: `Flatten`
    - other pictures of the same: `RandomShift`, `RandomFlip`

Sequences and texts:
    - tokens: `Embedding`, `Tied`; a long array of them cut into examples: `windows`
    - attention: `Attention`, where a position stands: `LearnedPositions`, `Rotary`; behind it: `Gated`
    - recurrent: `GRU`, `LSTM`; their last state: `Last`
    - a text that goes on: `generate`

What is learned:
    - numbers: `SquaredError`, `AbsoluteError`, `Huber`, `LogCosh`
    - classes: `CrossEntropy`, `BinaryCrossEntropy`; classes of unequal numbers: `class_weights`
    - penalties: `L1`, `L2`, `ElasticNet`

Where it starts:
    - parameters: `init` draws them, `from_weights` takes them
    - how they are drawn: `Uniform`, `Normal`, `GlorotUniform`, `GlorotNormal`, `HeUniform`, `HeNormal`,
      `LecunNormal`, `Zeros`, `Constant`

Backpropagation by hand:
    - forward: `predict`, `forward`, `cost`
    - backward: `backward`, `gradient`; both and the cost: `value_and_grad`; everything kept: `backprop`, a `Backprop`
    - inside other JAX programs: `as_function`, `as_cost`
    - other learning rules: `FeedbackAlignment`, `SignSymmetric`

Train:
    - whole trainings: `fit` one, `fit_many` side by side; what they give: `History`, `Trainings`
    - an epoch: `train_epoch`, from a `TrainState` made by `train_state`
    - when to end: `EarlyStopping`; saved now and then: `Checkpoint`, `load_checkpoint`
    - how good it is: `evaluate`, with `Accuracy`, `TopK`, `F1`, `R2`, `MeanAbsoluteError`, `Perplexity`
    - privately: `Privacy`, `noise_multiplier`; its parts: `clipped_gradient`, `private_gradient`

    - as scikit-learn estimators: MLPClassifier and MLPRegressor of funcnet.sklearn

Keep a network:
    - with its parameters: `save_model`, `load_model`; without: `to_json`, `from_json`

See how it works:
    - the derivative of one weight: `explain`; all numbers of a step: `worksheet`; how many there are: `factor_counts`
    - a page to step through: `explain_page`
    - sizes, layer by layer: `summary`
    - pictures: `plot_cost_surface`, `plot_decision_regions`, `plot_weights`, `plot_confusion`

Find out what is wrong:
    - why it does not learn: `diagnose`, a `Diagnosis` of `Verdict`s
    - signals, layer by layer: `gradient_flow`, `plot_gradient_flow`
    - whether derivatives are right: `check_gradients`, `check_layer`, `check_function`

Each example's gradient:
    - itself: `example_gradients`; any weighting: `weighted_gradient`
    - how long: `example_square_norms`, `plot_gradient_norms`; towards each other: `example_gram`, `example_cosines`
    - how they scatter: `gradient_moments`, `noise_scale`

Curvature:
    - diagonals: `ggn_diagonal`, `empirical_fisher_diagonal`
    - K-FAC: `kronecker_factors`, `KroneckerPair`s; as an optimiser: `scale_by_kfac`, `KfacState`

Write your own:
    - a class of values: `spec`; of what: `Layer`, `Combinator`, `Loss`, `Penalty`, `Initializer`, `Metric`
    - for combinators: `layer_forward`, `pull`, `contract`, `child_key`; their type of parameters: `Params`
"""

# The public names, listed once, in the order in which a newcomer meets them. `__all__` is made of this list.
from .layers.combinators import mlp as mlp, Chain as Chain
from .layers.transformers import gpt as gpt
from .layers.dense import Dense as Dense
from .layers.convolution import Conv as Conv, ConvTranspose as ConvTranspose
from .layers.pooling import (
    MaxPool as MaxPool, AvgPool as AvgPool, GlobalAveragePool as GlobalAveragePool, Flatten as Flatten, Last as Last,
)
from .layers.embedding import Embedding as Embedding, Tied as Tied
from .layers.positions import LearnedPositions as LearnedPositions, Rotary as Rotary
from .layers.attention import Attention as Attention
from .layers.gating import Gated as Gated
from .layers.recurrent import GRU as GRU, LSTM as LSTM
from .layers.combinators import Residual as Residual, Parallel as Parallel
from .layers.stacks import Repeat as Repeat, Remat as Remat
from .layers.dropout import Dropout as Dropout
from .layers.augmentation import RandomShift as RandomShift, RandomFlip as RandomFlip
from .layers.normalization import (
    LayerNorm as LayerNorm, RMSNorm as RMSNorm, GroupNorm as GroupNorm,
)
from .layers.known_statistics import FrozenBatchNorm as FrozenBatchNorm
from .layers.activations import (
    Sigmoid as Sigmoid, Tanh as Tanh, ReLU as ReLU, LeakyReLU as LeakyReLU, ELU as ELU, SELU as SELU, GELU as GELU,
    SiLU as SiLU, Softplus as Softplus, Softsign as Softsign, Softmax as Softmax, LogSoftmax as LogSoftmax,
    Identity as Identity,
)
from .layers.learning_rules import FeedbackAlignment as FeedbackAlignment, SignSymmetric as SignSymmetric

from .losses import (
    SquaredError as SquaredError, AbsoluteError as AbsoluteError, Huber as Huber, LogCosh as LogCosh,
    CrossEntropy as CrossEntropy, BinaryCrossEntropy as BinaryCrossEntropy,
)
from .penalties import L1 as L1, L2 as L2, ElasticNet as ElasticNet

from .parameters import init as init, from_weights as from_weights
from .initializers import (
    Uniform as Uniform, Normal as Normal, GlorotUniform as GlorotUniform, GlorotNormal as GlorotNormal,
    HeUniform as HeUniform, HeNormal as HeNormal, LecunNormal as LecunNormal, Zeros as Zeros, Constant as Constant,
)

from .propagation import (
    predict as predict, forward as forward, backward as backward, gradient as gradient, cost as cost,
    value_and_grad as value_and_grad, backprop as backprop, Backprop as Backprop,
)
from .generation import generate as generate
from .train.token_files import windows as windows
from .interop import as_function as as_function, as_cost as as_cost
from .check.checks import (
    check_gradients as check_gradients, check_layer as check_layer, check_function as check_function,
)

from .per_example.gradients import (
    weighted_gradient as weighted_gradient, example_gradients as example_gradients,
    example_square_norms as example_square_norms, example_gram as example_gram, example_cosines as example_cosines,
)
from .per_example.moments import gradient_moments as gradient_moments, noise_scale as noise_scale
from .per_example.signals import gradient_flow as gradient_flow
from .per_example.privacy import clipped_gradient as clipped_gradient, private_gradient as private_gradient

from .curvature.matrices import (
    ggn_diagonal as ggn_diagonal, empirical_fisher_diagonal as empirical_fisher_diagonal,
    kronecker_factors as kronecker_factors, KroneckerPair as KroneckerPair,
)
from .curvature.preconditioning import scale_by_kfac as scale_by_kfac, KfacState as KfacState

from .derivations.paths_of_weight import explain as explain
from .page.document import explain_page as explain_page
from .derivations.routes import factor_counts as factor_counts
from .derivations.worksheets import worksheet as worksheet
from .diagnosis.network_summary import summary as summary
from .diagnosis.diagnoses import diagnose as diagnose
from .diagnosis.verdicts import Diagnosis as Diagnosis, Verdict as Verdict
from .plots.surface import plot_cost_surface as plot_cost_surface
from .plots.signal_flow import plot_gradient_flow as plot_gradient_flow
from .plots.norms import plot_gradient_norms as plot_gradient_norms
from .plots.weights import plot_weights as plot_weights
from .plots.regions import plot_decision_regions as plot_decision_regions
from .plots.confusion import plot_confusion as plot_confusion

from .train.training import fit as fit
from .train.sweeps import fit_many as fit_many
from .train.state import train_state as train_state
from .train.epoch import train_epoch as train_epoch
from .train.state import TrainState as TrainState
from .train.history import History as History
from .train.trainings import Trainings as Trainings
from .train.stopping import EarlyStopping as EarlyStopping
from .train.evaluation import evaluate as evaluate
from .train.checkpoints import Checkpoint as Checkpoint
from .train.saved_trainings import load_checkpoint as load_checkpoint
from .train.balance import class_weights as class_weights
from .train.privacy_account import Privacy as Privacy, noise_multiplier as noise_multiplier
from .train.metrics import (
    Metric as Metric, Accuracy as Accuracy, TopK as TopK, F1 as F1, R2 as R2, MeanAbsoluteError as MeanAbsoluteError,
    Perplexity as Perplexity,
)

from ._core.specs import spec as spec
from ._core.protocols import (
    Layer as Layer, Combinator as Combinator, Loss as Loss, Penalty as Penalty, Initializer as Initializer,
    Params as Params,
)
from ._core.walkers import contract as contract, pull as pull, layer_forward as layer_forward
from ._core.keys import child_key as child_key
from .io.specs_as_json import to_json as to_json, from_json as from_json
from .io.model_files import save_model as save_model, load_model as load_model

from .io.specs_as_json import know as _know
import types as _types
from typing import NoReturn as _NoReturn

__version__ = "0.1.0"
__all__ = [name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _types.ModuleType)]
_know(globals()[name] for name in __all__)


def __getattr__(name: str) -> _NoReturn:
    """Whoever asks for a layer that funcnet has not is told why."""
    if name == "BatchNorm":
        raise AttributeError(
            "funcnet has no BatchNorm: in training it mixes examples, so that no gradient belongs to one of them. Use "
            "GroupNorm, which stands in its place; FrozenBatchNorm evaluates a trained one."
        )
    raise AttributeError(f"module 'funcnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

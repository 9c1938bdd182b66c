"""scikit-learn estimators that train by funcnet: `MLPClassifier`, `MLPRegressor`, drop-in for scikit-learn's.

Needs scikit-learn: `.venv/bin/pip install -e '.[sklearn]'` in the clone of funcnet.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "funcnet.sklearn needs scikit-learn. In the clone of funcnet: .venv/bin/pip install -e '.[sklearn]'."
    ) from error

from funcnet.sklearn.classifier import MLPClassifier as MLPClassifier
from funcnet.sklearn.regressor import MLPRegressor as MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]

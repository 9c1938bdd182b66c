"""To see it: derivations, worksheets, tables, pictures and diagnoses of a network's own numbers."""

from funcnet.explain.chains import explain
from funcnet.explain.derivation import Derivation
from funcnet.explain.diagnosis import Diagnosis, Verdict, diagnose
from funcnet.explain.page import explain_page
from funcnet.explain.pictures import (
    plot_confusion,
    plot_cost_surface,
    plot_decision_regions,
    plot_gradient_flow,
    plot_gradient_norms,
    plot_weights,
)
from funcnet.explain.routes import factor_counts
from funcnet.explain.summary import summary
from funcnet.explain.worksheet import Worksheet, worksheet

__all__ = [
    "Derivation", "Diagnosis", "Verdict", "Worksheet", "diagnose", "explain", "explain_page", "factor_counts",
    "plot_confusion", "plot_cost_surface", "plot_decision_regions", "plot_gradient_flow", "plot_gradient_norms",
    "plot_weights", "summary", "worksheet",
]  # fmt: skip

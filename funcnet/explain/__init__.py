"""To see it: derivations, worksheets, tables and diagnoses of a network's own numbers."""

from funcnet.explain.chains import explain
from funcnet.explain.derivation import Derivation
from funcnet.explain.diagnosis import diagnose
from funcnet.explain.page import explain_page
from funcnet.explain.routes import factor_counts
from funcnet.explain.summary import summary
from funcnet.explain.verdict import Diagnosis, Verdict
from funcnet.explain.worksheet import Worksheet, worksheet

__all__ = [
    "Derivation", "Diagnosis", "Verdict", "Worksheet", "diagnose", "explain", "explain_page", "factor_counts",
    "summary", "worksheet",
]  # fmt: skip

"""Why a network does not learn: what is looked at, by which limits, and what is said of it."""

from funcnet.explain.diagnosis.diagnose import diagnose
from funcnet.explain.diagnosis.verdict import Diagnosis, Verdict

__all__ = ["Diagnosis", "Verdict", "diagnose"]

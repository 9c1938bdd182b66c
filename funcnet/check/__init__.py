"""Checks of hand-written derivatives: against automatic ones, finite differences and a layer's laws."""

from funcnet.check.checks import check_function, check_gradients, check_layer
from funcnet.check.report import Law, Report, Row

__all__ = ["Law", "Report", "Row", "check_function", "check_gradients", "check_layer"]

"""Pictures of a network, its training and its data. Each is drawn on axes and gives them back."""

from funcnet.explain.pictures.confusion import plot_confusion
from funcnet.explain.pictures.flow import plot_gradient_flow
from funcnet.explain.pictures.norms import plot_gradient_norms
from funcnet.explain.pictures.regions import plot_decision_regions
from funcnet.explain.pictures.surface import plot_cost_surface
from funcnet.explain.pictures.weights import plot_weights

__all__ = [
    "plot_confusion",
    "plot_cost_surface",
    "plot_decision_regions",
    "plot_gradient_flow",
    "plot_gradient_norms",
    "plot_weights",
]

"""Checks of derivatives and of the laws of a layer. They alone use automatic differentiation."""

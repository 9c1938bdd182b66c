"""Layers and combinators, one family a file, each derivative beside its forward pass."""

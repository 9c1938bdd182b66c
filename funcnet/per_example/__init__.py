"""What each example contributes: gradients, norms, clipping, noise, signal sizes, from one backward pass."""

"""Second derivatives from one forward pass: diagonals, Kronecker factors, preconditioning."""

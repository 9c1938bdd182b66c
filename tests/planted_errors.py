"""Plant one error at a time in a copy of the package and see the fast tests fail: `python tests/planted_errors.py`.

With a word behind it, only the errors whose description holds that word.

A test that cannot fail proves nothing. Every row below is a mistake one might make in a derivative,
a contraction or a reduction: it replaces one piece of one line. Prints each error and the test that
caught it, then the count; exits with 1 if any got through.
"""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ORDER = ["worked_cases", "layers", "losses", "penalties", "backprop", "custom_vjp", "per_example", "privacy", "check"]

DENSE, ACT, NORM = "layers/dense.py", "layers/activations.py", "layers/norm.py"
DROP, COMB, LOSS = "layers/dropout.py", "layers/combinators.py", "losses.py"
PEN, BACK, ARG = "penalties.py", "backprop.py", "arguments.py"
PREC, RED = "precision.py", "reduction.py"
PER, PRIV, CONTR = "per_example.py", "privacy.py", "contractions.py"

ERRORS = [
    # (what, file, piece of a line, what stands there instead)
    ("bias forgotten in the forward pass", DENSE, "z = z + lax.broadcast", "z = z + 0 * lax.broadcast"),
    ("weights not transposed backwards", DENSE, "(delta.ndim - 1,), (1,))", "(delta.ndim - 1,), (0,))"),
    ("gradient of w transposed", DENSE, "sum_of_products(x, delta, rows, rows)", "sum_of_products(delta, x, rows, rows).reshape(x.shape[-1], -1)"),
    ("bias gradient summed over examples only", DENSE, "total(delta, rows)", "total(delta, rows[:1]).reshape(-1, delta.shape[-1])[0]"),
    ("bias gradient a mean", DENSE, "total(delta, rows)", "jnp.mean(delta, rows)"),
    ("sigmoid: f' = y", ACT, "delta * (y * (1 - y))", "delta * y"),
    ("tanh: f' at the wrong place", ACT, "delta * (1 - y * y)", "delta * (1 - jnp.tanh(y) ** 2)"),
    ("tanh: sign", ACT, "delta * (1 - y * y)", "delta * (y * y - 1)"),
    ("ReLU: passes everything", ACT, "jnp.where(tape > 0, delta, 0)", "delta"),
    ("ReLU: slope at zero", ACT, "jnp.where(tape > 0, delta, 0)", "jnp.where(tape >= 0, delta, 0)"),
    ("leaky ReLU: slope forgotten", ACT, "self.slope * delta), delta", "0 * delta), delta"),
    ("ELU: alpha forgotten", ACT, "self.alpha * jnp.exp", "jnp.exp"),
    ("SELU: scale forgotten", ACT, "self.scale * jnp.where(x > 0, 1, self.alpha", "jnp.where(x > 0, 1, self.alpha"),
    ("GELU: a factor of the inner derivative", ACT, "3 * 0.044715 * root", "2 * 0.044715 * root"),
    ("GELU, exact: density forgotten", ACT, "lax.erfc(-x * root) + x", "lax.erfc(-x * root) + 0 * x"),
    ("SiLU: derivative of the sigmoid forgotten", ACT, "s + y * (1 - s)", "s"),
    ("softplus: sign of the exponent", ACT, "-jnp.expm1(-tape)", "-jnp.expm1(tape)"),
    ("softmax: the sum forgotten", ACT, "y * (delta - along)", "y * delta"),
    ("log-softmax: the sum over examples", ACT, "jnp.exp(y) * total(delta, (y.ndim - 1,)", "jnp.exp(y) * total(delta, (0,)"),
    ("dropout: mask dropped backwards", DROP, "else self._masked(delta, tape)", "else delta"),
    ("dropout: not rescaled", DROP, "values / (1 - self.rate)", "values"),
    ("dropout: keeps what it should leave out", DROP, "bernoulli(one, 1 - self.rate", "bernoulli(one, self.rate"),
    ("layer norm: gain forgotten backwards", NORM, "u = (delta * lax.broadcast(params[\"g\"], delta.shape[:-1]))", "u = delta"),
    ("layer norm: mean of u forgotten", NORM, "(u - jnp.mean(u, -1, keepdims=True) -", "(u -"),
    ("layer norm: projection forgotten", NORM, "- wide * along) * scale", ") * scale"),
    ("layer norm: gradient of the gain without x", NORM, "* normal.astype(wide), rows)", ", rows)"),
    ("residual: the straight way forgotten", COMB, "return delta + branch, deltas", "return branch, deltas"),
    ("residual: added twice", COMB, "return x + y, tape", "return 2 * x + y, tape"),
    ("chain: every layer draws with one key", COMB, "layer.forward(own, x, child_key(key, i))", "layer.forward(own, x, key)"),
    ("chain: deltas left in reverse", COMB, "return delta, tuple(reversed(deltas))", "return delta, tuple(deltas)"),
    ("squared error: sign, as in the sources", LOSS, "return (a - y).astype", "return (y - a).astype"),
    ("absolute error: size instead of sign", LOSS, "jnp.sign(a - y)", "(a - y)"),
    ("Huber: clipped at 1", LOSS, "jnp.clip(a - y, -self.threshold, self.threshold)", "jnp.clip(a - y, -1, 1)"),
    ("log-cosh: the error itself", LOSS, "jnp.tanh(a - y)", "(a - y)"),
    ("cross-entropy: target forgotten", LOSS, "jax.nn.softmax(logits) * mass - q", "jax.nn.softmax(logits) * mass"),
    ("cross-entropy: smoothing without its share", LOSS, "(1 - s) * q + s / classes if s else q, mass", "(1 - s) * q if s else q, mass"),
    ("cross-entropy: a label out of range passes", LOSS, "q = jnp.where(jnp.expand_dims((y >= 0)", "q = jnp.where(True | jnp.expand_dims((y >= 0)"),
    ("binary cross-entropy: sign", LOSS, "jax.nn.sigmoid(logits) - q", "q - jax.nn.sigmoid(logits)"),
    ("costs averaged over features", LOSS, "return jnp.sum(costs, axis=-1)", "return jnp.mean(costs, axis=-1)"),
    ("L2: the 2 forgotten", PEN, "2 * _scalar", "1 * _scalar"),
    ("L1: the weight instead of its sign", PEN, "jnp.sign(w)", "w"),
    ("elastic net: second strength taken for the first", PEN, "L2(self.l2, self.on).gradient", "L2(self.l1, self.on).gradient"),
    ("penalty on biases", PEN, "path and getattr(path[-1], \"key\", None) in penalty.on", "path"),
    ("penalty's gradient divided", BACK, "g + extra.astype(g.dtype)", "g + extra.astype(g.dtype) / len(costs)"),
    ("penalty's cost forgotten", RED, "value + penalty.value(params)", "value + 0 * penalty.value(params)"),
    ("mean without 1/m", RED, "return 1 / max(len(costs), 1)", "return 1.0"),
    ("mean over positions too", RED, "return 1 / max(len(costs), 1)", "return 1 / max(costs.size, 1)"),
    ("weights not normalised", RED, "weights.astype(accumulation_type(costs.dtype)) * factor", "weights.astype(costs.dtype)"),
    ("weights divided by their number", RED, "mass = jnp.where(jnp.isfinite(mass), mass, jnp.nan)", "mass = jnp.asarray(float(len(weights)), mass.dtype)"),
    ("deltas of backprop scaled by the batch", BACK, "shares = shares_of(costs, batch.weights, \"sum\")", "shares = shares_of(costs, batch.weights, \"mean\")"),
    ("costs of backprop without weights", BACK, "total(weighted(costs, shares), tuple", "total(costs, tuple"),
    ("gradient from the deltas' own layer above", BACK, "leaf.gradient(kept, seen), tape, deltas)", "leaf.gradient(kept, 2 * seen), tape, deltas)"),
    ("0·∞ in the targets of a masked row", ARG, "    y = replaced(y,", "    replaced(y,"),
    ("0·∞ in the inputs of a masked row", ARG, "    x = replaced(x, counts", "    replaced(x, counts"),
    ("0·∞ at a masked position", ARG, "x = replaced(x, counts if x", "x = replaced(x, example if x"),
    ("0·∞ when all is masked", ARG, "jnp.where(flat.any(), rows[jnp.argmax(flat)]", "jnp.where(True, rows[jnp.argmax(flat)]"),
    ("sums of products held in bfloat16", PREC, "jnp.float64 if dtype == jnp.float64 else jnp.float32", "dtype"),
    ("cost's own rule forgets what comes from above", "custom_vjp.py", "lambda g: g * jnp.asarray(scale, g.dtype)", "lambda g: g"),
    ("per example: bias with positions as a sum of squares", DENSE, "(_products(x, x, 1) + one) * _products(delta, delta, 1)", "_products(x, x, 1) * _products(delta, delta, 1) + one * jnp.eye(positions) * _products(delta, delta, 1)"),
    ("per example: bias left out of the norm", DENSE, "total(x * x, (2,)) + one, total", "total(x * x, (2,)) + 0 * one, total"),
    ("per example: bias left out of inner products", DENSE, "x2, 0) + float(self.bias)", "x2, 0)"),
    ("per example: a norm where its square belongs", DENSE, "return (x_squares * delta_squares)[:, 0]", "return jnp.sqrt(x_squares * delta_squares)[:, 0]"),
    ("per example: what cancels between positions is not rounded up", DENSE, "rounding = 8 *", "rounding = 0 *"),
    ("per example: squares of the sums instead of sums of squares", CONTR, "lambda g: total(jnp.square(_wide(g)), (0,))", "lambda g: jnp.square(total(_wide(g), (0,)))"),
    ("per example: the last block forgotten", CONTR, "found.reshape(-1, *found.shape[2:]), f(last)]", "found.reshape(-1, *found.shape[2:]), 0 * f(last)]"),
    ("per example: the last block forgotten in a sum", CONTR, "start = squares(last)", "start = jax.tree.map(jnp.zeros_like, squares(last))"),
    ("per example: 1/m inside a norm", PER, "return each if per_layer else whole(each, (m,), bp)", "return jax.tree.map(lambda n: n / m**2, each if per_layer else whole(each, (m,), bp))"),
    ("per example: mean forgotten in the variance", PER, "s / m - g * g", "s / m"),
    ("per example: sample variance", PER, "jnp.maximum(s / m - g * g, 0)", "jnp.maximum(s / m - g * g, 0) * m / (m - 1)"),
    ("per example: Gram matrix of the first batch twice", CONTR, "inner(leaf, *take(0), *take(1))", "inner(leaf, *take(0), *take(0))"),
    ("per example: Gram matrix not mirrored", PER, "upper, upper.T)", "upper, upper)"),
    ("per example: weights on tape and deltas", CONTR, "replaced(a, counts) if _floating(a) else a, tape)", "weighted(a, weights) if _floating(a) else a, tape)"),
    ("0·∞ in the tape of an example of weight 0", CONTR, "replaced(a, counts) if _floating(a) else a, tape)", "a, tape)"),
    ("0·∞ in the deltas of an example of weight 0", CONTR, "weighted(a, weights) if _floating(a)", "jax.vmap(jnp.multiply)(a, weights) if _floating(a)"),
    ("private: clip of a zero gradient", PRIV, "jnp.sqrt(jnp.where(longer, squares, 1)), 1)", "jnp.sqrt(squares), bound / jnp.sqrt(squares))"),
    ("private: clipped to the squared norm", PRIV, "bound / jnp.sqrt(", "bound / jnp.abs("),
    ("private: short gradients made longer", PRIV, "longer = squares > bound * bound", "longer = squares > 0"),
    ("private: an example that is not finite is kept", PRIV, "jnp.where(counts, _factor(own, bound), 0)", "_factor(own, bound)"),
    ("private: a cost that is not finite is kept", PRIV, "& jnp.isfinite(bp.costs)", ""),
    ("private: every layer clipped at the whole norm", PRIV, "(np.sqrt(layers).item() if per_layer else 1)", "1"),
    ("private: noise after the mean", PRIV, "return (g + noise) / size", "return g / size + noise"),
    ("private: a reused key", PRIV, "jax.random.fold_in(typed(key), next(numbers))", "typed(key)"),
    ("private: noise without max_norm", PRIV, "scale * jnp.asarray(max_norm, g.dtype) *", "scale *"),
    ("private: divided by the batch's own size", PRIV, "/ size", "/ len(bp.costs)"),
]  # fmt: skip


def plant(number: int, cache: pathlib.Path) -> str | None:
    """Run the fast tests with one error (none for -1): the test that failed, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in ("funcnet", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        if number >= 0:
            what, file, old, new = ERRORS[number]
            path = copy / "funcnet" / file
            text = path.read_text()
            if old not in text:
                raise SystemExit(f"{what}: {file} no longer holds {old!r}. Bring the row up to date.")
            path.write_text(text.replace(old, new))
        files = [f"tests/test_{name}.py" for name in ORDER]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-m",
            "fast",
            "-x",
            "-q",
            "-n",
            "0",
            "-p",
            "no:cacheprovider",
            *files,
        ]
        compiled = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment = {**os.environ, **compiled, "PYTHONPATH": folder}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if run.returncode not in (0, 1):
            return f"(tests did not run: {run.stdout.strip().splitlines()[-1]})"
        failed = [line.split(" ")[1] for line in run.stdout.splitlines() if line.startswith("FAILED")]
        return failed[0] if failed else None


def main() -> None:
    with tempfile.TemporaryDirectory() as cache, concurrent.futures.ThreadPoolExecutor(2) as pool:
        if failed := plant(-1, pathlib.Path(cache)):
            raise SystemExit(f"The tests fail without any error planted: {failed}")
        caught, word = 0, " ".join(sys.argv[1:])
        chosen = [number for number, row in enumerate(ERRORS) if word in row[0]]
        for number, test in zip(chosen, pool.map(lambda n: plant(n, pathlib.Path(cache)), chosen)):
            row = ERRORS[number]
            caught += test is not None
            print(f"{'caught' if test else 'MISSED'}  {row[0]}: {test or f'{row[1]}: {row[3]}'}", flush=True)
    print(f"{caught} of {len(chosen)} planted errors caught")
    sys.exit(caught < len(chosen))


if __name__ == "__main__":
    main()

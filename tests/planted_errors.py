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
TRAINING = [
    "train/test_epoch",
    "train/test_training",
    "train/test_host_data",
    "train/test_sweeps",
    "train/test_checkpoints",
    "io/test_model_files",
]  # for what only a training uses
TRAINING += [
    "train/test_private_training",
    "train/test_telemetry",
    "train/test_optimizer_arguments",
    "train/test_positions",
    "train/test_metrics",
    "train/test_programs",
    "train/test_evaluation",
    "train/test_tokens",
]
ORDER = [
    "propagation/test_worked_cases",
    "layers/test_layers",
    "layers/test_convolution",
    "layers/test_pooling",
    "layers/test_normalization",
    "layers/test_augmentation",
    "layers/test_sequences",
    "layers/test_attention",
    "layers/test_stacks",
    "layers/test_transformers",
    "layers/test_values_of_torch",
    "test_generation",
    "layers/test_segments",
    "test_losses",
    "test_penalties",
    "propagation/test_propagation",
    "test_interop",
]
ORDER += [
    "per_example/test_gradients",
    "per_example/test_privacy",
    "per_example/test_image_values_of_peers",
    "curvature/test_matrices",
    "curvature/test_preconditioning",
    "core/test_walkers",
    "check/test_checks",
    "check/test_laws",
    "layers/test_learning_rules",
    "train/test_telemetry",
]
ORDER += [
    "core/test_weighting",
    "core/test_arguments",
    "plots/test_plots",
    "diagnosis/test_diagnosis",
    "derivations/test_formulas",
    "derivations/test_attention_head",
]

FROZEN, FEATURES = "layers/known_statistics.py", "layers/features.py"
DENSE, ACT, NORM = "layers/dense.py", "layers/activations.py", "layers/normalization.py"
DROP, COMB, LOSS = "layers/dropout.py", "layers/combinators.py", "losses.py"
PEN, BACK, ARG = "penalties.py", "propagation.py", "_core/arguments.py"
PREC, RED, WALK = "_core/numerics.py", "_core/weighting.py", "_core/walkers.py"
PRODUCTS, WORK = "_core/products.py", "_core/workarounds.py"
EPOCH, UPDATE, LOOP, REPLAY = "train/epoch.py", "train/update.py", "train/loop.py", "train/replays.py"
REFUSED, ROWS, SAVED = "train/checks.py", "train/measurements.py", "train/progress_arrays.py"
FILES = "_core/files.py"
DISK = "train/checkpoint_files.py"
MANY, LANES, STREAM, SAVE = "train/sweeps.py", "train/trainings.py", "train/host_data.py", "train/checkpoints.py"
METRIC, CAST, FILE, ORDERS = "train/metrics.py", "layers/cast.py", "io/model_files.py", "train/order.py"
PER, PRIV, CONTR, NOISE = (
    "per_example/gradients.py",
    "per_example/privacy.py",
    "_core/contractions.py",
    "per_example/moments.py",
)
CLAIMS, SHAPES, READS = (f"check/{name}.py" for name in ("claims", "structures", "independence"))
LAWS, DIFFS = "check/laws.py", "check/differences.py"
CURV, COLS, KFAC = "curvature/matrices.py", "curvature/square_roots.py", "curvature/preconditioning.py"
OWN, LOOK, FLOW, FEED = (
    "train/privacy_account.py",
    "train/telemetry.py",
    "per_example/signals.py",
    "layers/learning_rules.py",
)
CONV, CONVS, SLIDE = "layers/convolution.py", "_core/convolutions.py", "_core/sliding.py"
POOL, MOVE = "layers/pooling.py", "layers/augmentation.py"
EMBED, TOKENS, PLACES, GATES, STATES = (
    "layers/embedding.py",
    "_core/tokens.py",
    "layers/positions.py",
    "layers/gating.py",
    "layers/recurrent.py",
)
ATTEND, STACK, GPT = (f"layers/{name}.py" for name in ("attention", "stacks", "transformers"))
DRAW, SURF, STREAMS = "_core/figures.py", "plots/surface.py", "plots/signal_flow.py"
IMAGES, AREAS = "plots/weights.py", "plots/regions.py"
TABLE, NORMS, GRID = "plots/confusion.py", "plots/norms.py", "plots/grids.py"
PLACE = "derivations/addresses.py"
SIGNS, TRIALS, VERDICTS = (f"diagnosis/{name}.py" for name in ("symptoms", "trials", "training_symptoms"))
FILLING, PIECES, LINES, LOADED = (
    f"train/{name}.py" for name in ("filling", "evaluation", "progress", "saved_trainings")
)
DESCRIBED, PRINTS, MIXES = "train/descriptions.py", "_core/fingerprints.py", "train/mixing.py"
GIVEN, DIAGNOSE = "diagnosis/evidence.py", "diagnosis/diagnoses.py"

# The room of tests that is to catch it comes first.
FIRST = {
    MANY: "train/test_sweeps",
    LANES: "train/test_sweeps",
    STREAM: "train/test_host_data",
    SAVE: "train/test_checkpoints",
    FILE: "io/test_model_files",
    FILES: "io/test_model_files",
}
FIRST |= {
    ARG: "propagation/test_propagation",
    "_core/scalars.py": "core/test_arguments",
    "train/token_files.py": "train/test_tokens",
    BACK: "propagation/test_propagation",
    RED: "propagation/test_propagation",
    CONTR: "per_example/test_gradients",
    PRODUCTS: "per_example/test_gradients",
    PREC: "layers/test_layers",
    WORK: "layers/test_layers",
    WALK: "core/test_walkers",
    "_core/keys.py": "core/test_walkers",
    "layers/base.py": "core/test_walkers",
    CONVS: "layers/test_convolution",
    SLIDE: "layers/test_pooling",
    FEED: "layers/test_learning_rules",
}
FIRST |= dict.fromkeys((EMBED, TOKENS, PLACES, GATES, STATES), "layers/test_sequences")
FIRST |= {METRIC: "train/test_metrics", REPLAY: "train/test_private_training", MIXES: "train/test_private_training"}
FIRST |= dict.fromkeys((DESCRIBED, PRINTS, SAVED, LOADED, DISK), "train/test_checkpoints")
FIRST |= dict.fromkeys((FILLING, ORDERS, "train/programs.py"), "train/test_programs")
FIRST |= {PIECES: "train/test_evaluation", LINES: "train/test_training"}
FIRST |= (
    dict.fromkeys((CAST, ROWS), "train/test_epoch") | {UPDATE: "train/test_training"} | {LOOP: "train/test_training"}
)
FIRST |= {OWN: "train/test_private_training", LOOK: "train/test_telemetry", "train/history.py": "train/test_training"}
FIRST |= dict.fromkeys([DRAW, SURF, STREAMS, IMAGES, AREAS, TABLE, NORMS, GRID, PLACE], "plots/test_plots")
FIRST |= dict.fromkeys((CLAIMS, SHAPES, READS, LAWS, DIFFS), "check/test_laws")
FIRST |= dict.fromkeys((SIGNS, TRIALS, VERDICTS, GIVEN, DIAGNOSE), "diagnosis/test_diagnosis")

ERRORS = [
    # (what, file, piece of a line, what stands there instead)
    ("bias forgotten in the forward pass", DENSE, "z = z + lax.broadcast", "z = z + 0 * lax.broadcast"),
    ("weights not transposed backwards", DENSE, "(delta.ndim - 1,), (1,))", "(delta.ndim - 1,), (0,))"),
    ("gradient of w transposed", DENSE, "sum_of_outer_products(x, delta)", "sum_of_outer_products(delta, x).reshape(x.shape[-1], -1)"),
    ("bias gradient summed over examples only", DENSE, "total(delta, (0,))", "total(deltas, (0,)).reshape(-1, delta.shape[-1])[0]"),
    ("bias gradient a mean", DENSE, "total(delta, (0,))", "jnp.mean(delta, 0)"),
    ("sigmoid: f' = y", ACT, "delta * (y * (1 - y))", "delta * y"),
    ("tanh: f' at the wrong place", ACT, "delta * (1 - y * y)", "delta * (1 - jnp.tanh(y) ** 2)"),
    ("tanh: sign", ACT, "delta * (1 - y * y)", "delta * (y * y - 1)"),
    ("ReLU: passes everything", ACT, "jnp.where(tape > 0, delta, 0)", "delta"),
    ("ReLU: slope at zero", ACT, "jnp.where(tape > 0, delta, 0)", "jnp.where(tape >= 0, delta, 0)"),
    ("leaky ReLU: slope forgotten", ACT, "self.slope * delta), delta", "0 * delta), delta"),
    ("ELU: alpha forgotten", ACT, "self.alpha * jnp.exp", "jnp.exp"),
    ("softsign: the square forgotten", ACT, "delta * jnp.square(1 - jnp.abs(tape))", "delta * (1 - jnp.abs(tape))"),
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
    ("layer norm: gain forgotten backwards", NORM, '_through(normal, scale, delta * over_rows(params["g"], delta)), delta', "_through(normal, scale, delta), delta"),
    ("layer norm: mean of u forgotten", NORM, "back = back - _over_features(jnp.mean, u)", "pass"),
    ("layer norm: projection forgotten", NORM, "back = u - normal * _over_features(jnp.mean, u * normal)", "back = u"),
    ("layer norm: gradient of the gain without x", FEATURES, "total(wide(deltas) * wide(normal), rows_of(deltas))", "total(wide(deltas), rows_of(deltas))"),
    ("stack: examples not moved to the front", WALK, "jnp.moveaxis(a, len(stack.shape), 0)", "jnp.moveaxis(a, 0, 0)"),
    ("stack: one block stands for all", WALK, "jnp.sum(a, range(a.ndim - len(shape)))", "a[(0,) * (a.ndim - len(shape))]"),
    ("stack: clipped by layer as if it were one", PRIV, "sum(norms.size // max(m, 1) for norms", "sum(1 for norms"),
    ("combinator of one pass: the first pass twice", WALK, "layer.contract(remember, *kept[2:])", "layer.contract(remember, *kept[:2])"),
    ("a position of weight 0 replaced where others see it", ARG, "counts if by_position and", "counts if True and"),
    ("mean: an example's weight counted once for all its positions", RED, "* math.prod(shape[weights.ndim :])", "* 1"),
    ("as_dense: the constant forgotten", CONTR, "any(form[2:])", "False"),
    ("wrapper: by_position kept to itself", "layers/base.py", 'return getattr(self.layer, "by_position", False)', "return False"),
    ("context: the key lost on the way", "_core/keys.py", "key._replace(key=child_key(key.key, number))", "key"),
    ("residual: the straight way forgotten", COMB, "return delta + branch, results", "return branch, results"),
    ("residual: added twice", COMB, "return x + y, tape", "return 2 * x + y, tape"),
    ("chain: every layer draws with one key", COMB, "forward(layer, weights, x, child_key(context, i))", "forward(layer, weights, x, context)"),
    ("chain: deltas left in reverse", COMB, "return delta, tuple(reversed(results))", "return delta, tuple(results)"),
    ("squared error: sign, as in the sources", LOSS, "return (a - y).astype", "return (y - a).astype"),
    ("absolute error: size instead of sign", LOSS, "jnp.sign(a - y)", "(a - y)"),
    ("Huber: clipped at 1", LOSS, "jnp.clip(a - y, -self.threshold, self.threshold)", "jnp.clip(a - y, -1, 1)"),
    ("log-cosh: the error itself", LOSS, "jnp.tanh(a - y)", "(a - y)"),
    ("cross-entropy: target forgotten", LOSS, "(p * mass - q).astype", "(p * mass).astype"),
    ("cross-entropy: smoothing without its share", LOSS, "(1 - s) * q + s / classes if s else q, mass", "(1 - s) * q if s else q, mass"),
    ("binary cross-entropy: sign", LOSS, "return (p - q).astype", "return (q - p).astype"),
    ("costs averaged over features", LOSS, "return jnp.sum(costs, axis=-1)", "return jnp.mean(costs, axis=-1)"),
    ("L2: the 2 forgotten", PEN, "2 * _scalar", "1 * _scalar"),
    ("L1: the weight instead of its sign", PEN, "jnp.sign(w)", "w"),
    ("elastic net: second strength taken for the first", PEN, "L2(self.l2, self.on).gradient", "L2(self.l1, self.on).gradient"),
    ("penalty on biases", PEN, "path and getattr(path[-1], \"key\", None) in on", "path"),
    ("penalty's gradient divided", RED, "g + extra.astype(g.dtype)", "g + extra.astype(g.dtype) / 2"),
    ("penalty's cost forgotten", RED, "value + penalty.value(params)", "value + 0 * penalty.value(params)"),
    ("mean without 1/m", RED, "return whole / mass if mass else", "return whole if mass else"),
    ("mean over examples only", RED, "return float(math.prod(shape))", "return float(shape[0])"),
    ("weights not normalised", RED, "jnp.where(mass == 0, 1, mass))", "1)"),
    ("weights divided by their number", RED, "whole = jnp.sum(weights.astype(accumulation_type(dtype)))", "whole = jnp.asarray(float(weights.size), accumulation_type(dtype))"),
    ("deltas of backprop scaled by the batch", BACK, "wide = weights_of(run.costs, run.batch.weights)", 'wide = shares_of(run.costs, run.batch.weights, "mean")'),
    ("costs of backprop without weights", BACK, "total(weighted(run.costs, wide), tuple", "total(run.costs, tuple"),
    ("gradient from the deltas' own layer above", WALK, "return leaf.gradient(tape, deltas)", "return leaf.gradient(tape, jax.tree.map(lambda d: 2 * d, deltas))"),
    ("0·∞ in the targets of a masked row", ARG, "    y = replaced(y,", "    replaced(y,"),
    ("0·∞ in the inputs of a masked row", ARG, "    x = replaced(x, counts", "    replaced(x, counts"),
    ("0·∞ at a masked position", ARG, "x = replaced(x, counts if by_position and", "x = replaced(x, example if by_position and"),
    ("0·∞ when all is masked", RED, "jnp.where(flat.any(), rows[jnp.argmax(flat)]", "jnp.where(True, rows[jnp.argmax(flat)]"),
    ("sums of products held in bfloat16", PREC, "jnp.float64 if dtype == jnp.float64 else jnp.float32", "dtype"),
    ("curvature, cross-entropy: a column without its root of p", LOSS, "jnp.moveaxis(root, -1, 0)", "jnp.moveaxis(root * root, -1, 0)"),
    ("curvature, cross-entropy: only the diagonal", LOSS, "(_unit_columns(p) - p[None])", "_unit_columns(p)"),
    ("curvature, binary: the variance instead of its root", LOSS, "_diagonal(jnp.sqrt(second)", "_diagonal((second)"),
    ("curvature, Huber: curved beyond the threshold", LOSS, "(jnp.abs(a - y) <= self.threshold)", "(jnp.abs(a - y) >= 0)"),
    ("curvature, log-cosh: the root forgotten", LOSS, "(1 / jnp.cosh(a - y))", "(1 / jnp.cosh(a - y) ** 2)"),
    ("curvature, squared error: samples twice as wide", LOSS, "output + jax.random.normal", "output + 2 * jax.random.normal"),
    ("curvature: squares of the last column only", COLS, "jax.tree.map(jnp.add, sums, of(i)), None", "(jax.tree.map(jnp.add, sums[0], of(i)[0]), of(i)[1]), None"),
    ("curvature: positions that meet pushed back together", COLS, "passes = 1 if by_position or kind", "passes = 1 if True or kind"),
    ("curvature: positions taken for examples where they meet", COLS, "by_position = getattr(net, \"by_position\", False)", "by_position = True"),
    ("curvature: empirical squares of positions apart", COLS, "if by_position and kind != \"empirical\" else 0", "if by_position else 0"),
    ("curvature: tape not squared", PRODUCTS, "sum_of_outer_products(jnp.square(rows(form.inputs)), squares)", "sum_of_outer_products(rows(form.inputs), squares)"),
    ("curvature: a sum instead of a mean", CURV, "s / max(pushed.m, 1)", "s / 1"),
    ("curvature: A without its 1 for the bias", PRODUCTS, "jnp.ones((len(values), 1), values.dtype)", "jnp.zeros((len(values), 1), values.dtype)"),
    ("curvature: G a mean over positions", CURV, "symmetric_product(rows(form.signals)) / m", "symmetric_product(rows(form.signals)) / len(rows(form.signals))"),
    ("K-FAC: damping without pi", KFAC, "KroneckerPair(_inverse_of(factor.a, pi * root)", "KroneckerPair(_inverse_of(factor.a, root)"),
    ("K-FAC: pi of traces, not of their means", KFAC, "jnp.diag(side)) / max(len(side), 1) for side in factor)", "jnp.diag(side)) for side in factor)"),
    ("K-FAC: an inverse by the wrong triangle", KFAC, "half.T @ half", "half @ half.T"),
    ("K-FAC: inverses never refreshed again", KFAC, "state.step % every == 0", "state.step == 0"),
    ("K-FAC: inverses of the old factors", KFAC, "partial(_inverse, damping=damping), factors)", "partial(_inverse, damping=damping), state.factors)"),
    ("K-FAC: averages that never forget", KFAC, "jnp.maximum(1 - decay, 1 /", "jnp.maximum(0 * decay, 1 /"),
    ("K-FAC: one draw for all steps", KFAC, "jax.random.fold_in(jax.random.key(seed), step)", "jax.random.fold_in(jax.random.key(seed), 0 * step)"),
    ("K-FAC: bias not moved with the weights", KFAC, "\"b\": moved[-1]}", "\"b\": rows[-1]}"),
    ("cost's own rule forgets what comes from above", "interop.py", "lambda g: g * jnp.asarray(scale, g.dtype)", "lambda g: g"),
    ("what fills up the last batch counts", UPDATE, "return counted", "return jnp.ones_like(counted)"),
    ("what fills up a weighted batch counts", UPDATE, "weights * counted.astype", "weights * (counted | True).astype"),
    ("parts of a batch divided once more", UPDATE, "weighting.safe_mean(s, mass)", "weighting.safe_mean(s / options.accumulate, mass)"),
    ("parts of a batch without the penalty's gradient", UPDATE, "weighting.penalised(penalty, params, *", "weighting.penalised(None, params, *"),
    ("parts of a batch divided by the number of examples", UPDATE, "weighting.mass(output.shape[:-1], ", "weighting.mass(output.shape[:1], "),
    ("what is not trainable is moved by the optimiser", UPDATE, "params, kept(options.trainable, updates)", "params, updates"),
    ("an example draws by its place in the batch", UPDATE, "draw_key))(batch.rows)", "draw_key))(jnp.arange(len(batch.rows)))"),
    ("an epoch's cost the mean of its batches'", EPOCH, "safe_mean((values * masses).sum(), masses.sum())", "values.mean()"),
    ("the key not advanced", EPOCH, "state.step + len(values), order.next_key)", "state.step + len(values), state.key)"),
    ("one draw of dropout for all epochs", ORDERS, "options, m), draw_key", "options, m), jax.random.key(0)"),
    ("the same order in every epoch", ORDERS, "permutation(key, rows if m is None else m, room)", "permutation(jax.random.key(0), rows if m is None else m, room)"),
    ("a row drawn twice", ORDERS, "& jnp.uint32(2**bits - 1)", "& jnp.uint32(2**bits - 2)"),
    ("epochs counted as steps", EPOCH, "state.step + len(values)", "state.step + 1"),
    ("the state that is not finite given back", REPLAY, "jnp.where(good, a, b), then, before", "jnp.where(good, a, a), then, before"),
    ("the step before the bad one named", REPLAY, "at step {first + 1} of", "at step {first} of"),
    ("gradient and parameter mixed up in the message", REPLAY, "\"the cost\", *(f\"the gradient of {n}\" for n in names), *(f\"the new value of {n}\"", "\"the cost\", *(f\"the new value of {n}\" for n in names), *(f\"the gradient of {n}\""),
    ("early stopping gives back the last", LOOP, "jnp.where(there.reshape(", "jnp.where(0 * there.reshape("),
    ("early stopping: the sign of the minimum change", LOOP, "then.best_value - jnp.asarray(limits.min_change", "then.best_value + jnp.asarray(limits.min_change"),
    ("early stopping: smaller taken for better", LOOP, "sign = -1 if", "sign = 1 if"),
    ("early stopping: an epoch late", LOOP, "waited >= limits.patience", "waited > limits.patience"),
    ("an epoch that was not finite recorded", LOOP, "after = jax.tree.map(partial(jnp.where, finite), then, failed)", "after = then"),
    ("validation cost of the training data", ROWS, "held = job.validation", "held = job.data"),
    ("validation cost with the penalty", ROWS, "validation_{name}\": value for", "validation_{name}\": value + (job.options.penalty.value(params) if job.options.penalty else 0) for"),
    ("metrics without weights", ROWS, "m.value(output, data.y, weights)", "m.value(output, data.y, None)"),
    ("R²: the mean of y forgotten", METRIC, "(y - jnp.expand_dims(mean, rows)) ** 2", "y**2"),
    ("F1: only what was read", METRIC, "_sums(read + true, weights)", "_sums(read + read, weights)"),
    ("classes balanced by their square", "train/balance.py", "classes.size / (len(counts) * counts)", "classes.size / (len(counts) * counts**2)"),
    ("the compute type ignored", CAST, "return Cast(net, name)", "return net"),
    ("lanes: a penalty that is not swept", MANY, "lane.get(\"penalty\", penalty) for lane", "lanes[0].get(\"penalty\", penalty) for lane"),
    ("lanes: a rate that is not swept", MANY, "[lane[name] for lane in lanes] for name", "[lanes[0][name] for lane in lanes] for name"),
    ("lanes: one seed for all", MANY, "jax.random.key(lane[\"seed\"])", "jax.random.key(lanes[0][\"seed\"])"),
    ("lanes: the failed one's state put everywhere", MANY, "* lane.ndim) == number, lane, lanes)", "* lane.ndim) >= 0, lane, lanes)"),
    ("lanes: the worst is the best", LANES, "np.nanargmax(values) if", "np.nanargmin(values) if"),
    ("lanes: the value of the last epoch", LANES, "self.history.best_epoch, self.history.best_epoch, self.history.epochs)", "self.history.best_epoch, self.history.epochs, self.history.epochs)"),
    ("pieces in reverse", STREAM, "range(0, len(rows), steps))", "range(0, len(rows), steps)[::-1])"),
    ("a piece's rows by their place", STREAM, "np.asarray(part[chosen])", "np.asarray(part[np.arange(chosen.size).reshape(chosen.shape)])"),
    ("the targets whole on the device", STREAM, "if options.metrics else Data(None, None, None)", "if True else Data(None, None, None)"),
    ("checkpoint: a save that failed tried again at once", SAVE, " and epoch != self.failed", ""),
    ("fit: Ctrl-C lost with its exception", "train/progress.py", ".any() and not reasons:", ".any():"),
    ("fit: listens to Ctrl-C ever after", "train/progress.py", "            signal.signal(number, handler)", "            pass"),
    ("checkpoint: the key is not restored", SAVED, "return jax.random.wrap_key_data(", "return leaf  # "),
    ("checkpoint: the columns are not restored", SAVED, "        return jnp.asarray(saved)", "        return jnp.zeros_like(saved) if width else jnp.asarray(saved)"),
    ("checkpoint: the checksum is not compared", DISK, "if checksum_of(arrays, about) != sha256", "if False"),
    ("checkpoint: a checksum of names alone", FILES, "digest.update(np.ascontiguousarray(array).tobytes())", "pass"),
    ("checkpoint: the best is not kept", SAVE, "if old != best:", "if True:"),
    ("checkpoint: the worst is kept", SAVE, "column, -1.0 if larger_is_better", "column, 1.0 if larger_is_better"),
    ("checkpoint: the oldest is taken", SAVE, "sorted(epochs_in(self.folder), reverse=True)", "sorted(epochs_in(self.folder))"),
    ("checkpoint: another training is taken up", SAVE, "        if different:", "        if False:"),
    ("checkpoint: a column's value of the epoch before", SAVE, "[:, reached(progress) - 1]", "[:, reached(progress) - 2]"),
    ("model file: the checksum is not compared", FILE, "if about.get(\"sha256\") != checksum(arrays, about.get(\"net\", \"\"))", "if False"),
    ("model file: written in its place", FILES, "open(beside, \"xb\")", "open(path, \"wb\")"),
    ("per example: bias with positions as a sum of squares", PRODUCTS, "(_products(x, x, 1) + one) * _products(delta, delta, 1)", "_products(x, x, 1) * _products(delta, delta, 1) + one * jnp.eye(positions) * _products(delta, delta, 1)"),
    ("per example: bias left out of the norm", PRODUCTS, "total(x * x, (2,)) + one, total", "total(x * x, (2,)) + 0 * one, total"),
    ("per example: bias left out of inner products", PRODUCTS, "x2, 0) + float(form.constant)", "x2, 0)"),
    ("per example: a norm where its square belongs", PRODUCTS, "return (x_squares * delta_squares)[:, 0]", "return jnp.sqrt(x_squares * delta_squares)[:, 0]"),
    ("per example: what cancels between positions is not rounded up", PRODUCTS, "rounding = 8 *", "rounding = 0 *"),
    ("per example: squares of the sums instead of sums of squares", CONTR, "_over_examples(jnp.ones(len(g)), jnp.square(wide(g)))", "jnp.square(_over_examples(jnp.ones(len(g)), wide(g)))"),
    ("per example: the last block forgotten", CONTR, "results.reshape(-1, *results.shape[2:]), f(last)]", "results.reshape(-1, *results.shape[2:]), 0 * f(last)]"),
    ("per example: the last block forgotten in a sum", CONTR, "start = squares(last)", "start = jax.tree.map(jnp.zeros_like, squares(last))"),
    ("per example: 1/m inside a norm", PER, "return square_norms_of(net, bp)", "return square_norms_of(net, bp) / m**2"),
    ("per example: mean forgotten in the variance", NOISE, "s / m - g * g", "s / m"),
    ("per example: sample variance", NOISE, "jnp.maximum(s / m - g * g, 0)", "jnp.maximum(s / m - g * g, 0) * m / (m - 1)"),
    ("per example: Gram matrix of the first batch twice", PER, "contractions.inner, bp.tape, bp.deltas, other.tape, other.deltas)", "contractions.inner, bp.tape, bp.deltas, bp.tape, bp.deltas)"),
    ("per example: Gram matrix not mirrored", WORK, "edges[i + 1] - edges[j]].T for j", "edges[i + 1] - edges[j]].T * 0 for j"),
    ("per example: a strip of the Gram matrix in another's place", WORK, "[*left, strips[i]]", "[*left[::-1], strips[i]]"),
    ("per example: weights on tape and deltas", CONTR, "replaced(a, counts) if _floating(a) else a, tape)", "weighted(a, weights) if _floating(a) else a, tape)"),
    ("0·∞ in the tape of an example of weight 0", CONTR, "replaced(a, counts) if _floating(a) else a, tape)", "a, tape)"),
    ("0·∞ in the deltas of an example of weight 0", CONTR, "weighted(a, weights) if _floating(a)", "jax.vmap(jnp.multiply)(a, weights) if _floating(a)"),
    ("0·∞ in the gradients of an example of weight 0", CONTR, "lax.cond(counts.all(),", "lax.cond(counts.any(),"),
    ("per example: gradients formed at once, all of weight 1", CONTR, "_over_examples(weights, g), each)", "_over_examples(jnp.ones_like(weights), g), each)"),
    ("few outputs: the last row forgotten", WORK, "sum_of_products(delta, x, (0,), (0,)), ((0, 1)", "sum_of_products(delta[:-1], x[:-1], (0,), (0,)), ((0, 1)"),
    ("few outputs: the wrong row cut off", WORK, ".T[:, :k]", ".T[:, 1:]"),
    ("private: clip of a zero gradient", PRIV, "jnp.sqrt(jnp.where(longer, squares, 1)), 1)", "jnp.sqrt(squares), bound / jnp.sqrt(squares))"),
    ("private: clipped to the squared norm", PRIV, "bound / jnp.sqrt(", "bound / jnp.abs("),
    ("private: short gradients made longer", PRIV, "longer = ~(squares <= bound * bound)", "longer = squares > 0"),
    ("private: an example that is not finite is kept", PRIV, "jnp.where(counts, _factor(lengths, bound), 0)", "_factor(lengths, bound)"),
    ("private: a cost that is not finite is kept", PRIV, "& jnp.isfinite(bp.costs)", ""),
    ("private: every layer clipped at the whole norm", PRIV, "(np.sqrt(layers).item() if per_layer else 1)", "1"),
    ("private: noise after the mean", PRIV, "return (g + noise) / size", "return g / size + noise"),
    ("private: a reused key", PRIV, "jax.random.fold_in(typed(key), next(numbers))", "typed(key)"),
    ("private: noise without max_norm", PRIV, "scale * jnp.asarray(max_norm, g.dtype) *", "scale *"),
    ("private: divided by the batch's own size", PRIV, "/ size", "/ len(bp.costs)"),
    ("private training: noise with the key of an example", UPDATE, "jnp.uint32(2**31) + batch.step.astype(jnp.uint32)", "batch.step.astype(jnp.uint32)"),
    ("private training: one noise for all steps of an epoch", UPDATE, "jnp.uint32(2**31) + batch.step.astype(jnp.uint32)", "jnp.uint32(2**31)"),
    ("private training: parts that do not add up", UPDATE, "whole + more.astype(whole.dtype), sums, summed(part)", "more.astype(whole.dtype), sums, summed(part)"),
    ("private training: divided by the room of a batch", UPDATE, "privacy.noise_multiplier, options.batch_size", "privacy.noise_multiplier, len(inputs.x)"),
    ("private training: no noise", UPDATE, "privacy.noise_multiplier, options.batch_size", "0.0, options.batch_size"),
    ("private training: per_layer ignored", UPDATE, "privacy.max_norm, privacy.per_layer,", "privacy.max_norm, False,"),
    ("private training: the penalty's cost forgotten", UPDATE, "return weighting.penalised(options.penalty, params, weighting.safe_mean(cost, mass), grads)", "return weighting.safe_mean(cost, mass), weighting.penalised(options.penalty, params, cost, grads)[1]"),
    ("private training: the same rows in every batch", ORDERS, "jax.random.split(key, -(-m // options.batch_size)))", "jnp.stack([key] * -(-m // options.batch_size)))"),
    ("private training: drawn with half the probability", ORDERS, "2**32 * options.batch_size // m", "2**31 * options.batch_size // m"),
    ("private training: drawn more often than the account says", ORDERS, "2**32 * options.batch_size // m - 1", "-(-(2**32) * options.batch_size // m) - 1"),
    ("private training: what fills up a batch counts", ORDERS, "jnp.arange(room) < chosen.sum()", "jnp.arange(room) <= chosen.sum()"),
    ("private training: room by the normal tail", OWN, "log / 3 + math.sqrt(log * log / 9 + 2 * batch_size * log)", "math.sqrt(2 * batch_size * log)"),
    ("private training: ε without what overflow costs", OWN, "get_epsilon((1 - OVERFLOW_SHARE) * privacy.delta)", "get_epsilon(privacy.delta)"),
    ("private training: ε without the last step", OWN, "account.compose(step, -(-examples // batch_size))", "account.compose(step, examples // batch_size)"),
    ("private training: ε of one example in a batch", OWN, "batch_size / examples, dp", "1 / examples, dp"),
    ("private training: the noise for one step an epoch", OWN, "epochs * -(-examples // batch_size)", "epochs"),
    ("private training: stopped by the training data", REFUSED, "not stopping.monitor.startswith(\"validation_\")", "False"),
    ("private training: a layer that mixes examples passes", REFUSED, "refuse_mixing(options, state.params, job.data)", "options.net"),
    ("private training: a piece's steps counted from 0", STREAM, "np.arange(start, start + len(chosen))", "np.arange(len(chosen))"),
    ("telemetry: dead at one example", FLOW, "jnp.all(jnp.abs(slope) < HARDLY, rows)", "jnp.any(jnp.abs(slope) < HARDLY, rows)"),
    ("telemetry: flat by the slope alone", FLOW, "slope < FLAT * steepest", "slope < FLAT"),
    ("telemetry: gradient of the sum", FLOW, "lambda g: g / m, sums", "lambda g: g, sums"),
    ("telemetry: the last activation counts", FLOW, "elif sizes and not followed:", "elif sizes:"),
    ("telemetry: mean of squares without the root", FLOW, "return jnp.sqrt(jnp.sum(jnp.stack(", "return (jnp.sum(jnp.stack("),
    ("telemetry: a mean over what fills up", FLOW, "count = count * counted.mean(", "count = count * jnp.ones_like(counted).mean("),
    ("telemetry: what fills up is measured", FLOW, "jnp.where(_along(counted, leaf), leaf, 0)", "leaf"),
    ("telemetry: update to weight upside down", LOOK, "rms(update) / rms(weights)", "rms(weights) / rms(update)"),
    ("telemetry: norms of what fills up", LOOK, "jnp.where(batch.counted, norms, jnp.nan)", "norms"),
    ("telemetry: noise scale of what fills up", LOOK, "jnp.maximum(batch.counted.sum(dtype=norms.dtype), 1)", "number"),
    ("telemetry: the optimiser's gradient for the examples'", LOOK, "if options.penalty is None and options.trainable is None and options.privacy is None", "if True"),
    ("telemetry: looked at after the update", LOOK, "options.loss, before, x", "options.loss, then, x"),
    ("telemetry: squared norms", LOOK, "norms = jnp.sqrt(", "norms = ("),
    ("telemetry: updates between two looks forgotten", EPOCH, "then, costs = jax.lax.scan(counted, then, rest)", "_, costs = jax.lax.scan(counted, then, rest)"),
    ("telemetry: steps counted in looks", LOOP, "* steps, first)", "* looks(job), first)"),
    ("telemetry: every epoch at the place of the first", LOOP, "(place * len(kept),)", "(0 * place,)"),
    ("telemetry: one look an epoch given back", "train/history.py", "int(self.epochs) * self.looks", "int(self.epochs)"),
    ("telemetry: pieces cut between two looks", STREAM, "steps = -(-steps // max(every, 1)) * max(every, 1)", "pass"),
    ("learning rule: the weights themselves sent down", FEED, "lambda b, w: b.astype(w.dtype), fixed, params", "lambda b, w: w, fixed, params"),
    ("learning rule: one feedback for all seeds", FEED, "jax.random.key(self.seed)", "jax.random.key(0)"),
    ("learning rule: signs without their size", FEED, "jnp.sign(w) * jnp.mean(jnp.abs(w))", "jnp.sign(w)"),
    ("learning rule: signs of gains", FEED, "if w.ndim > 1 else w", "if True else w"),
    ("learning rule: cosine by one norm twice", PER, "(products(bp, bp), products(other, other))", "(products(bp, bp), products(bp, bp))"),
    ("learning rule: cosine of a zero gradient", PER, "jnp.where(squares > 0, cosines * lax.rsqrt(jnp.where(squares > 0, squares, 1)), 0)", "cosines * lax.rsqrt(squares)"),
    ("learning rule: cosine with itself", CONTR, "(tape, deltas, tape2, deltas2), count)", "(tape, deltas, tape, deltas), count)"),
    ("asking optimiser: a Backprop without weights", UPDATE, "= backprop(net, loss, params, x, y, weights=weights, key=keys)\n    return", "= backprop(net, loss, params, x, y, key=keys)\n    return"),
    ("asking optimiser: a Backprop without dropout", UPDATE, "= backprop(net, loss, params, x, y, weights=weights, key=keys)\n    return", "= backprop(net, loss, params, x, y, weights=weights)\n    return"),
    ("asking optimiser: a Backprop for all", UPDATE, "if needs_backprop(opt_state):", "if True:"),
    ("asking optimiser: one inside another is not seen", UPDATE, "jax.tree.leaves(opt_state, is_leaf=asks)", "[opt_state]"),
    ("pictures: a surface over the weights the other way round", SURF, "zip(entries, pair)", "zip(entries, pair[::-1])"),
    ("pictures: a surface by rows of the first weight", SURF, ".reshape(points, points)", ".reshape(points, points).T"),
    ("pictures: a surface without the penalty", SURF, "penalty=penalty, reduction=reduction)", "reduction=reduction)"),
    ("pictures: a surface of the sum", SURF, "penalty=penalty, reduction=reduction)", "penalty=penalty, reduction='sum')"),
    ("pictures: a surface without weights of the examples", SURF, "weights=batch.weights, penalty", "weights=None, penalty"),
    ("pictures: layers that do not learn are counted", SURF, "for _, layer, shapes in leaves if shapes]", "for _, layer, shapes in leaves]"),
    ("pictures: the leaf of another layer", SURF, 'f"layer {layer}, ', 'f"layer {len(layers) + 1 - layer}, '),
    ("pictures: a path without its first state", SURF, "for params in path])", "for params in path[1:] + path[:1]])"),
    ("pictures: a path that is lost sets the span", SURF, "states = states[np.isfinite(states).all(1)]", "pass"),
    ("pictures: a span as wide as the path", SURF, "half = 0.7 *", "half = 0.5 *"),
    ("pictures: infinite costs are coloured", SURF, "np.where(np.isfinite(costs), costs, np.nan)", "np.nan_to_num(costs)"),
    ("pictures: a logarithm of 0", SURF, "lowest > 0 and highest", "highest"),
    ("pictures: layers in the order of letters", STREAMS, "if name == what), key=number_of)", "if name == what), key=str)"),
    ("pictures: looks taken for epochs", STREAMS, "/ history.looks", "/ 1"),
    ("pictures: shares on a logarithmic scale", STREAMS, "    if what in SHARES:\n        return", "    if False:\n        return"),
    ("pictures: zeros on a logarithmic scale", STREAMS, "& (values > 0), values", ", values"),
    ("pictures: weights of a row instead of a column", IMAGES, "return w.T.reshape(", "return w.reshape("),
    ("pictures: an image transposed", IMAGES, "*_checked_shape(layer, len(w), shape))", "*_checked_shape(layer, len(w), shape)[::-1]).swapaxes(1, 2)"),
    ("pictures: colours not around 0", IMAGES, "vmin=-limit", "vmin=0"),
    ("pictures: the second layer's weights", IMAGES, "next(matrices, (\"\", None))", "[*matrices][-1]"),
    ("pictures: regions upside down", AREAS, 'origin="lower"', 'origin="upper"'),
    ("pictures: regions moved by half a field", AREAS, "(u[0] - du, u[-1] + du, v[0] - dv, v[-1] + dv)", "(u[0], u[-1], v[0], v[-1])"),
    ("pictures: regions of the smallest output", AREAS, "outputs.argmax(-1)", "outputs.argmin(-1)"),
    ("pictures: regions at another threshold", AREAS, "outputs[:, 0] > threshold", "outputs[:, 0] > 0"),
    ("pictures: a region where the output is NaN", AREAS, "np.isnan(outputs).any(-1)", "False & np.isnan(outputs).any(-1)"),
    ("pictures: examples under another class", AREAS, "x[true == number]", "x[true == count - 1 - number]"),
    ("pictures: confusion transposed", TABLE, "np.add.at(counts, (true, classes), 1)", "np.add.at(counts, (classes, true), 1)"),
    ("pictures: confusion that counts once", TABLE, "np.add.at(counts, (true, classes), 1)", "counts[true, classes] = 1"),
    ("pictures: confusion by columns", TABLE, "counts.sum(1, keepdims=True)", "counts.sum(0, keepdims=True)"),
    ("pictures: one logit against another threshold", GRID, "values[..., 0] > threshold", "values[..., 0] > 0"),
    ("pictures: a class that no output stands for", GRID, "if outputs is not None and least > outputs", "if False"),
    ("pictures: squared norms", NORMS, "np.sqrt(np.asarray(", "np.abs(np.asarray("),
    ("pictures: the share that is shorter", NORMS, "np.mean(norms > max_norm)", "np.mean(norms < max_norm)"),
    ("pictures: norms of 0 forgotten", NORMS, '(norms == 0).sum(), "of 0"', '0, "of 0"'),
    ("pictures: dollars begin mathematics", DRAW, 'replace("$", r"\\$")', 'replace("$", "$")'),
    ("pictures: names of a legend in another order", DRAW, "zip(box.get_texts(), names)", "zip(box.get_texts(), names[::-1])"),
    ("pictures: a figure that pyplot knows", DRAW, "return Figure(layout=\"constrained\").subplots()", "from matplotlib import pyplot; return pyplot.subplots()[1]"),
    ("formula of an activation: another slope", ACT, '"a (1 - a)"', '"a (1 + a)"'),
    ("formula of a loss: sign", LOSS, '"½ (a - y)²", "a - y"', '"½ (a - y)²", "y - a"'),
    ("pictures: a layer beyond the last", PLACE, "1 <= layer <= len(layers)", "True"),
    ("pictures: an input beyond the last", PLACE, "0 <= source < weights.n_in", "True"),
    ("curves: training and validation in one colour", "train/history.py", 'COLOURS[name.startswith("validation_")]', "COLOURS[0]"),
    ("curves: metrics on the scale of the cost", "train/history.py", "(twin, DASHES", "(ax, DASHES"),
    ("curves: counted from 0", "train/history.py", "np.arange(1, int(self.epochs) + 1)", "np.arange(int(self.epochs))"),
    ("diagnosis: chance level without weights", GIVEN, "1.0 if weights is None else weights.astype(output.dtype)", "1.0"),
    ("diagnosis: smoothing forgotten in chance level", GIVEN, "(1 - s) * mean + s / len(mean)", "mean"),
    ("diagnosis: chance level of logits as if of probabilities", GIVEN, "constants = [jnp.log(jnp.maximum((1 - s)", "constants = [(jnp.maximum((1 - s)"),
    ("diagnosis: chance level without the median", GIVEN, "[mean, jnp.median(rows, axis=0)]", "[mean]"),
    ("diagnosis: gradient of the sum", GIVEN, "return safe_mean(total(bp.costs), whole), grads", "return total(bp.costs), grads"),
    ("diagnosis: layer 10 taken for the second", DIAGNOSE, "sorted(flow, key=number_of)", "sorted(flow)"),
    ("diagnosis: what has weight 0 is looked at", DIAGNOSE, "x=given.x[rows]", "x=given.x[drawn]"),
    ("diagnosis: consequences named beside their cause", DIAGNOSE, "        if reasons:", "        if False:"),
    ("diagnosis: zeros count in the size of inputs", SIGNS, "np.maximum(entries, 1)", "len(rows)"),
    ("diagnosis: small inputs pass", SIGNS, "limit.INPUT_SMALLEST <= sizes[large] <=", "0 <= sizes[large] <="),
    ("diagnosis: inputs of other sizes pass", SIGNS, "ratio <= limit.INPUT_RATIO", "ratio > 0"),
    ("diagnosis: only neighbouring units compared", SIGNS, "columns[:, np.argsort(line @ columns)]", "columns"),
    ("diagnosis: equal weights suffice for symmetry", SIGNS, "for part in (params, grads):", "for part in (params,):"),
    ("diagnosis: outputs may not be equal", SIGNS, "layers, strict=True))[:-1]", "layers, strict=True))"),
    ("diagnosis: dead units not seen", SIGNS, "elif dead > limit.DEAD", "elif dead > 1"),
    ("diagnosis: saturation not seen", SIGNS, "if flat > limit.SATURATED", "if flat > 1"),
    ("diagnosis: error signals upside down", SIGNS, "size / sizes[names[-1]] for", "sizes[names[-1]] / size for"),
    ("diagnosis: any constant taken for a cause", SIGNS, "different > 1:", "different > 0:"),
    ("diagnosis: a few examples, uphill", TRIALS, "-rate.astype(u.dtype) * u", "rate.astype(u.dtype) * u"),
    ("diagnosis: rates all the same", TRIALS, "u * state.factor.astype(u.dtype)", "u"),
    ("diagnosis: updates of all steps for those of the first", TRIALS, "jnp.where(state.step < limit.FIRST, sizes, 0)", "sizes"),
    ("diagnosis: a rate far too low has no higher one", TRIALS, "if not abs(middle - ends[factor]) <= clearly:", "if True:"),
    ("diagnosis: a low rate blamed after training", VERDICTS, "elif not facts.learned and middle", "elif middle"),
    ("diagnosis: a rate too low whenever a higher one gains", VERDICTS, "gained < limit.PROGRESS", "gained < 10 + limit.PROGRESS"),
    ("diagnosis: weights of 0 blamed for their updates", VERDICTS, "if facts.flow[name][\"weight\"] > 0", "if True"),
    ("diagnosis: one bad epoch taken for overfitting", VERDICTS, "np.median(validation[", "np.max(validation["),
    ("diagnosis: a cost that rose taken for overfitting", VERDICTS, "and training[end] < (1 - limit.RISE) * training[best])", ")"),
    ("diagnosis: what early stopping left behind blamed", VERDICTS, "int(history.best_epoch) or int(history.epochs)", "int(history.epochs)"),
    ("diagnosis: a gap before training blamed", VERDICTS, "if facts.learned and validation", "if validation"),
    ("diagnosis: rare classes blamed for their chance level", GIVEN, "if isinstance(loss, (CrossEntropy, BinaryCrossEntropy)):", "if False:"),
    ("diagnosis: offsets of inputs pass", SIGNS, "(offsets := _offsets(rows)).max() > limit.INPUT_OFFSET", "(offsets := _offsets(rows)).max() > np.inf"),
    ("diagnosis: flags taken for offsets", SIGNS, "(least < most) & (least * most > 0)", "(least < most)"),
    ("diagnosis: large inputs blamed before a LayerNorm", SIGNS, "np.inf if normed else limit.INPUT_LARGEST", "limit.INPUT_LARGEST"),
    ("diagnosis: narrow types stay narrow by heart", TRIALS, "jax.tree.map(wide, (facts.params, *data))", "(facts.params, *data)"),
    ("diagnosis: few parameters blamed", TRIALS, "if parameters < targets:", "if False:"),
    ("diagnosis: a wrong sign not tried", TRIALS, "if min(middle, ends[0.1]) - start > clearly:", "if False:"),
    ("diagnosis: a rate too high taken for a wrong sign", VERDICTS, "start < ends.get(limit.UPHILL, 0.0) < np.inf", "limit.UPHILL in ends"),
    ("diagnosis: a training that stands still passes", VERDICTS, "elif not moves and", "elif False and"),
    ("diagnosis: large updates blamed that do better", VERDICTS, "early = {} if better else {", "early = {"),
    ("diagnosis: a history that is not finite passes", VERDICTS, "        if len(bad):", "        if False:"),
    ("diagnosis: epochs that are not finite taken for the least", VERDICTS, "(np.isfinite(training) & np.isfinite(validation))[", "(validation == validation)["),
    ("diagnosis: many trainings taken for one", DIAGNOSE, "if np.ndim(history.epochs):", "if False:"),
    ("arguments: validation of nothing passes", ARG, "if not len(batch.x):", "if False:"),
    ("arguments: True taken for a whole number", "_core/scalars.py", " and not isinstance(value, bool)", ""),
    ("diagnosis: units switched off taken for copies", "diagnosis/symptoms.py", "off.all() | ~off", "off | ~off"),
    ("check: square_norms are not compared", CLAIMS, "(np.sum(a * a, -1) for a in rows)", "jax.tree.leaves(actual)"),
    ("check: square_sum is not compared", CLAIMS, "agreement(name, actual, jax.tree.map(", "agreement(name, actual, actual) or (jax.tree.map("),
    ("check: inner of one pass alone", CLAIMS, "*_fewer((tape2, deltas2))", "*_fewer((tape, deltas))"),
    ("check: example_gradients taken for the rows'", CLAIMS, "EACH: (1, contractions.gradients),", "EACH: (1, contractions.gradients_of_rows),"),
    ("check: as_dense without its constant", CLAIMS, "if form.constant else grads", "if False else grads"),
    ("check: what is not finite is not compared", CLAIMS, "if not (law := agreement(FINITE, *cut)).held:", "if not (law := agreement(FINITE, cut, cut)):"),
    ("check: by_position is believed", CLAIMS, "if not getattr(layer, \"by_position\", False):", "if True:"),
    ("check: x without positions gets none", CLAIMS, "if x.ndim > 2 or not floating(x):", "if True:"),
    ("check: a layer contracted twice passes", SHAPES, "float(number) not in visited:", "False:"),
    ("check: layers in another order pass", SHAPES, "if visited[float(number)] != leaf:", "if False:"),
    ("check: a dict of dicts passes", SHAPES, "if not hasattr(value, \"shape\"):", "if False:"),
    ("check: parameters in no dict pass", SHAPES, "if not isinstance(values, dict):", "if False:"),
    ("check: no bias is moved", READS, "(0, 0.0, 1.0)]", "(0, 0.0, 0.0)]"),
    ("check: a slope made again passes", READS, "if ways[name] > WAYS:", "if False:"),
    ("check: powers of a parameter are not taken out", READS, "table - powers @ (powers.T @ table)", "table"),
    ("check: an undeclared key passes", READS, "if trial.keys is not None or", "if True or"),
    ("check: segments are not told apart", READS, "np.arange(size) < start, 1,", "np.arange(size) <= size, 1,"),
    ("check: a gradient in bfloat16 passes", LAWS, "types <= {\"float32\", \"float64\"}", "True"),
    ("check: integers with an error signal pass", LAWS, "kept = (input_delta.dtype, input_delta.shape) == (x.dtype, x.shape)", "kept = True"),
    ("check: entries that disagree are not looked at", DIFFS, "np.zeros(0, int) if a is None else _disagreeing(g, a)", "np.zeros(0, int)"),
    ("reduction: the share under the sum", RED, "averaged(total(weighted(costs, weights_of(costs, weights))), costs, weights, reduction)", "total(weighted(costs, shares_of(costs, weights, reduction)))"),
    ("checkpoint: values of the data not compared", DESCRIBED, "_named(jax.tree.map(fingerprint, job.data))", "''"),
    ("checkpoint: starting parameters not compared", DESCRIBED, "params\": tree_fingerprint(state.params)", "params\": ''"),
    ("checkpoint: constants of programs not compared", PRINTS, "_add(update, list(getattr(part, \"consts\", ())))", "_add(update, [])"),
    ("checkpoint: numbers in programs not compared", PRINTS, "update(_bytes(np.asarray(variable.val)))", "update(b'')"),
    ("checkpoint: what is missing is filled in", SAVED, "if saved is None and not math.prod(shape):", "if saved is None:"),
    ("checkpoint: another epoch's arrays pass", SAVED, "if reached(progress) != epoch:", "if False:"),
    ("checkpoint: overwrite is ignored", SAVE, "if self.wanted.overwrite:", "if False:"),
    ("mixing: any difference passes", MIXES, "DIFFERENCE = 1e-4", "DIFFERENCE = 1e4"),
    ("mixing: rows that fill up see the rest", MIXES, "why = FILLED_UP if", "why = '' if"),
    ("cross entropy: labels count the classes in their own type", LOSS, "y.astype(jnp.int32) if y.dtype.itemsize < 4 else y", "y"),
    ("losses: no share of something infinite is NaN", LOSS, "jnp.where(q == 0, 0, q * jnp.where(q == 0, 0, logarithms))", "q * logarithms"),
    ("log cosh: no digits near 0", LOSS, "near = jnp.abs(a - y) < 1", "near = jnp.abs(a - y) < 0"),
    ("layer norm: squares overflow", NORM, "= _unit(values, fold, epsilon)", "= 1.0, epsilon"),
    ("elu: half a second derivative at 0", ACT, "jnp.where(x > 0, 0, x)", "jnp.minimum(x, 0)"),
    ("sweep: fractions cut to the type of the first", MANY, "        dtype = floating", "        pass"),
    ("metrics: float labels taken for probabilities", METRIC, "return off.any() if", "return False if"),
    ("metrics: a share of no variance", METRIC, "jnp.where(varies, 1 -", "jnp.where(True, 1 -"),
    ("early stopping: NaN in the first epoch wins", LOOP, "~jnp.isnan(value) & (", "("),
    ("private training: an example's cost ends it", LOOP, "job.options.privacy is not None or", "False or"),
    ("training: a state of mid-epoch keeps its key", REPLAY, "keys_of(state.key)[0]", "state.key"),
    ("private training: frozen layers use up the norm", UPDATE, "trainable=keep", "trainable=None"),
    ("clipping: no bound that cannot be seen", PRIV, "jnp.where((bound > 0) & jnp.isfinite(bound), bound, jnp.nan)", "bound"),
    ("programs: all are kept", "train/programs.py", "while len(self.kinds) > KEPT:", "while False:"),
    ("filling: rows that fill up are examples", FILLING, "m=np.int32(m)", "m=None"),
    ("filling: rows that fill up validation count", FILLING, "validation_m=np.int32(rows)", "validation_m=None"),
    ("order: rows that fill up are in it", ORDERS, "others = places >= jnp.asarray(m, jnp.uint32)", "others = places >= size"),
    ("evaluation: the last piece is lost", PIECES, "jnp.concatenate([a.reshape(-1, *a.shape[2:]), b])", "jnp.concatenate([a.reshape(-1, *a.shape[2:]), 0 * b])"),
    ("a table: what a lane recorded after its end", LINES, "np.where(of, values, np.nan)", "np.where(True, values, np.nan)"),
    ("SIGTERM: what it did before is not done", LINES, "after[0] if after else _nothing", "_nothing"),
    ("on_epoch: True does not stop", LINES, "                if any(wishes):", "                if False:"),
    ("checkpoint: two trainings in a folder", DISK, "fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
    ("load_checkpoint: the last for the best", LOADED, "state._replace(params=_best_of(arrays, state, about))", "state"),
    ("skip: the update is made all the same", UPDATE, "jax.tree.map(partial(jnp.where, finite), then, before)", "then"),
    ("skip: the cost of what is left out counts", UPDATE, "(jnp.where(finite, part, 0) for part in outcome[:2])", "(jnp.where(finite, part, 1) for part in outcome[:2])"),
    ("early stopping: watched from the first epoch", LOOP, " & (then.epoch > limits.start_from_epoch)", ""),
    ("binary cross entropy: no weight of the positive in delta", LOSS, "self._weights(q) * q * jax.nn.sigmoid(-logits)", "q * jax.nn.sigmoid(-logits)"),
    ("feedback: B drawn as the weights are", FEED, "jax.random.fold_in(jax.random.key(self.seed), OWN_DRAW)", "jax.random.key(self.seed)"),
    ("convolution: sides of the padding swapped backwards", CONVS, "[(e - 1 - before, n - reach + before) for", "[(n - reach + before, e - 1 - before) for"),
    ("convolution: the kernel not flipped backwards", CONVS, "lax.rev(swapped(w, groups), tuple(range(n)))", "swapped(w, groups)"),
    ("convolution: features of groups in another order", CONVS, "jnp.moveaxis(parts, -1, -3).swapaxes(-1, -2)", "jnp.moveaxis(parts, -1, -3)"),
    ("convolution: stride and dilation swapped in the kernel's gradient", CONVS, "(x, delta, window.stride, window.dilation, _sides", "(x, delta, window.dilation, window.stride, _sides"),
    ("convolution: sides swapped in the kernel's gradient", CONVS, "(before, reach + e - 1 - n - before)", "(reach + e - 1 - n - before, before)"),
    ("convolution: groups in another order in the kernel's gradient", WORK, "jnp.moveaxis(a.reshape(*a.shape[:-1], groups,", "jnp.moveaxis(a[..., ::-1].reshape(*a.shape[:-1], groups,"),
    ("convolution: groups of one example mixed up", CONVS, "preferred_element_type=accumulation_type(x.dtype)).transpose(1, 0, 2)", "preferred_element_type=accumulation_type(x.dtype))"),
    ("convolution: the last block of examples left out", WORK, "last = f(x[first:], delta[first:])", "last = 0 * f(x[first:], delta[first:])"),
    ("convolution: one block of examples left out", WORK, "(sums + f(*part), None), last, whole)", "(sums + f(*part), None), last, tuple(a[1:] for a in whole))"),
    ("convolution, beside a CPU: features taken for outputs", WORK, "(n + 1, 0, *range(1, n + 1)), (n + 1, 0, *range(1, n + 1)), (n, n + 1,", "(n + 1, 0, *range(1, n + 1)), (n + 1, 0, *range(1, n + 1)), (n + 1, n,"),
    ("convolution: the bias's gradient a mean", CONV, "total(deltas, tuple(range(first, deltas.ndim - 1)))", "jnp.mean(deltas, tuple(range(first, deltas.ndim - 1)))"),
    ("convolution: an example's bias summed over the batch", CONV, "deltas, window), deltas, first=1)", "deltas, window), deltas)"),
    ("convolution: as_dense in another order than w", CONV, "_dense_form(list(views(self._window(tape), tape)), deltas", "_dense_form(list(views(self._window(tape), tape))[::-1], deltas"),
    ("convolution: as_dense with all groups' signals in each", CONV, "jnp.eye(groups, dtype", "jnp.ones((groups, groups), dtype"),
    ("transposed convolution: as_dense not flipped", CONV, "views(over, apart))[::-1]", "views(over, apart))"),
    ("transposed convolution: the kernel's gradient not turned back", CONV, "w = swapped(kernel_gradient(deltas, tape, self._window(tape), self.groups), self.groups)", "w = kernel_gradient(deltas, tape, self._window(tape), self.groups).reshape(*self.kernel_size, -1, self.n_out)"),
    ("transposed convolution: SAME as if it were VALID", CONV, "inner = tuple(n * s for n, s in zip(positions, stride))", "inner = tuple((n - 1) * s + 1 for n, s in zip(positions, stride))"),
    ("depthwise: copies of a feature in another order", CONVS, "jnp.repeat(x, times, axis=-1)", "jnp.tile(x, (*[1] * (x.ndim - 1), times))"),
    ("depthwise: another's outputs summed backwards", CONVS, "total(back.reshape(*back.shape[:-1], groups,", "total(back[..., ::-1].reshape(*back.shape[:-1], groups,"),
    ("window: SAME pads more at the start", SLIDE, "(total // 2, total - total // 2)", "(total - total // 2, total // 2)"),
    ("window: SAME forgets the dilation", SLIDE, "zip(positions, stride, bare.extent)", "zip(positions, stride, kernel)"),
    ("window: entries that overlap are not added", SLIDE, "else total + back", "else back"),
    ("window: put back as if there were no padding", SLIDE, "first = [o * d - before for", "first = [o * d - 0 * before for"),
    ("window: places and entries mixed up where it tiles", SLIDE, "zip(range(1, n + 1), range(n + 1, 2 * n + 1))", "zip(range(n + 1, 2 * n + 1), range(1, n + 1))"),
    ("window: one that moves by its size tiles, padded or not", SLIDE, "and not any(map(sum, self.padding))", ""),
    ("max pooling: the last of equal ones takes the error", POOL, "(seen > largest) |", "(seen >= largest) |"),
    ("max pooling: padding wins", POOL, "views(window, x, -np.inf)", "views(window, x)"),
    ("max pooling: large windows in one byte", POOL, "if entries(window) <= 256", "if entries(window) <= 400"),
    ("a kernel's gradients: padding of the axis before left out", CONVS, "_sides_of_kernel(window)[:-1], rhs", "[(0, 0)] * (n - 1), rhs"),
    ("a kernel's gradients: entries of the last axis in the place of features", CONVS, "(0, 1), (-3, -2))", "(0, 1), (-2, -3))"),
    ("transposed convolution: an example's kernel from outputs to inputs", CONV, "swapped(kernel_gradients(deltas, tape, window))", "kernel_gradients(deltas, tape, window)"),
    ("max pooling: padding wins against -inf", POOL, "window.first_inside.astype(number)", "0 * window.first_inside.astype(number)"),
    ("fit_many: lanes one after the other in reverse", MANY, "return jax.lax.map(lambda lane: one(*lane), lanes)", "return jax.lax.map(lambda lane: one(*lane), jax.tree.map(lambda a: a[::-1], lanes))"),
    ("average pooling: the error given to each in full", POOL, "each = delta / number", "each = delta"),
    ("average pooling: sums held in bfloat16", POOL, "wide(view) for view in views(window, x)", "view for view in views(window, x)"),
    ("global average pooling: the error given to each in full", POOL, "/ math.prod(positions)", "/ 1"),
    ("flatten: features before positions", POOL, "x.reshape(len(x), math.prod(x.shape[1:]))", "jnp.moveaxis(x, -1, 1).reshape(len(x), math.prod(x.shape[1:]))"),
    ("RMS norm: a mean taken off", NORM, "_over_features, centre=False)", "_over_features)"),
    ("RMS norm: a mean taken off backwards", NORM, "delta), centre=False), delta", "delta)), delta"),
    ("group norm: groups interleaved", NORM, "reduce(each.reshape(len(each), self.groups, size), 2)", "reduce(each.reshape(len(each), size, self.groups), 1)"),
    ("group norm: sums over positions for means", NORM, "s * gains / positions", "s * gains"),
    ("group norm: gain forgotten in the means", NORM, "s * gains / positions", "s / positions"),
    ("frozen batch norm: the half of the variance's derivative", FROZEN, "-0.5 * total(mean", "-1.0 * total(mean"),
    ("frozen batch norm: the mean's sign", FROZEN, '"mean": -total(', '"mean": total('),
    ("frozen batch norm: scale forgotten backwards", FROZEN, 'delta * over_rows(params["g"] * self._scale(params), delta)', 'delta * over_rows(params["g"], delta)'),
    ("parallel: δ cut at the wrong places", COMB, "shape.shape[-2] for _, shape in tape)", "shape.shape[-2] for _, shape in tape[::-1])"),
    ("parallel: error signals of the first alone", COMB, "return sum(back[1:], back[0]), results", "return back[0], results"),
    ("parallel: every layer draws with one key", COMB, "x, child_key(context, i))\n            for", "x, context)\n            for"),
    ("parallel: marks left on the tape", COMB, "tuple(own for own, _ in tape)", "tuple(tape)"),
    ("random shift: backwards the same way", MOVE, "_moved(delta, -tape)", "_moved(delta, tape)"),
    ("random shift: the edge moves in", MOVE, "jnp.where(there, x,", "jnp.where(there | True, x,"),
    ("random shift: down for right", MOVE, "shift[:, axis - 1, None]", "shift[:, 2 - axis, None]"),
    ("random shift: the largest never drawn", MOVE, "-self.pixels, self.pixels + 1", "-self.pixels, self.pixels"),
    ("random flip: not mirrored backwards", MOVE, "else _mirrored(delta, tape)", "else delta"),
    ("random flip: upside down", MOVE, "x[:, :, ::-1]", "x[:, ::-1]"),
    ("GELU: the second half of the slope", ACT, "s + 2 * (s * (1 - s) * x)", "s + (s * (1 - s) * x)"),
    ("GELU: 0 · ∞ far out", ACT, "jnp.minimum(x * x, 1e4)", "x * x"),
    ("cross entropy: the first class's cost", LOSS, "jnp.expand_dims(jnp.where(exist, q, 0), -1), -1)[..., 0]", "jnp.expand_dims(0 * q, -1), -1)[..., 0]"),
    ("cross entropy: a class that does not exist has a cost", LOSS, "costs = jnp.where(exist, -own, jnp.nan)", "costs = -own"),
    ("cross entropy: the target one class further", LOSS, "logits.ndim - 1) == jnp.expand_dims(q, -1)", "logits.ndim - 1) == jnp.expand_dims(q + 1, -1)"),
    ("cross entropy: a class that does not exist has a delta", LOSS, "jnp.where(jnp.expand_dims(_are_classes(q, logits), -1), delta, jnp.nan)", "delta"),
    ("embedding: of equal tokens the last alone", TOKENS, "].add(flat, mode=\"drop\")", "].set(flat, mode=\"drop\")"),
    ("embedding: norms of an example's equal tokens apart", TOKENS, "jnp.square(summed_at_first(ids, delta)[1])", "jnp.square(delta)"),
    ("embedding: sums of another example's tokens", TOKENS, "places = first + T * jnp.arange(m)[:, None]", "places = first + 0 * jnp.arange(m)[:, None]"),
    ("embedding: an integer below 0 counts from the end", TOKENS, "jnp.where(ids < 0, np.asarray(vocabulary, ids.dtype), ids)", "ids"),
    ("embedding: 8 bits hold the vocabulary", TOKENS, "ids = ids.astype(jnp.int32) if ids.dtype.itemsize < 4 else ids", "vocabulary %= 2 ** (8 * ids.dtype.itemsize - 1)"),
    ("embedding: out of range is the last row", TOKENS, "get(mode=\"fill\", fill_value=np.nan)", "get(mode=\"clip\")"),
    ("embedding: integers have an error signal", EMBED, "return jnp.zeros_like(tape), delta", "return jnp.ones_like(tape), delta"),
    ("embedding: one integer too many passes", ARG, "(ids < 0) | (ids >= size)", "(ids < 0) | (ids > size)"),
    ("tied: the use at the output has no gradient", EMBED, "rows + sum_of_products(delta, h, (0,), (0,))", "rows + 0 * sum_of_products(delta, h, (0,), (0,))"),
    ("tied: norms without the term between the uses", EMBED, "+ products + 2 * jnp.sum", "+ products + 0 * jnp.sum"),
    ("tied: half the term between the uses", EMBED, "+ products + 2 * jnp.sum", "+ products + jnp.sum"),
    ("K-FAC: tokens counted, not their frequencies", TOKENS, "[:, 0] / max(ids.size, 1)", "[:, 0]"),
    ("K-FAC: the diagonal of A is not damped", KFAC, "return 1 / (matrix + damping)", "return 1 / (matrix + 0 * damping)"),
    ("K-FAC: the diagonal of A on the wrong side", KFAC, "moved = inverse.a[:, None] * rows if", "moved = inverse.a[::-1, None] * rows if"),
    ("learned positions: rows at the end", PLACES, "(0, self.length - sums.shape[-2])", "(self.length - sums.shape[-2], 0)"),
    ("learned positions: products of the last rows", PLACES, "rows[:, :both].reshape", "rows[:, -both:].reshape"),
    ("learned positions: squares before the sum", PLACES, "total(jnp.square(_by_example(deltas)), (0,))", "total(jnp.square(deltas), tuple(range(deltas.ndim - 2)))"),
    ("rotary: turned further on the way back", PLACES, "return self._turned(delta, cos, -sin), delta", "return self._turned(delta, cos, sin), delta"),
    ("rotary: angles in float32", PLACES, "return np.cos(angles), np.sin(angles)", "return np.cos(np.float32(angles)), np.sin(np.float32(angles))"),
    ("rotary: pairs beside each other", PLACES, "self.turned, 2, d // 2)", "self.turned, d // 2, 2).swapaxes(-1, -2)"),
    ("gated: the halves swapped", GATES, "a, b = jnp.split(x, 2, -1)", "b, a = jnp.split(x, 2, -1)"),
    ("gated: δ times a for f(a)", GATES, "[through, delta * gate]", "[through, delta * a]"),
    ("GRU: the reset gate's slope without what it multiplies", STATES, "of_n * r, of_n * q * r * (1 - r)", "of_n * r, of_n * r * (1 - r)"),
    ("GRU: the reset gate not at the constant", STATES, "jnp.tanh(of_n + r * q)", "jnp.tanh(of_n + r * product + c)"),
    ("GRU: no error signal past the update gate", STATES, "carried = delta * z + sum_of", "carried = sum_of"),
    ("GRU: u's gradient from the signals of w", STATES, "_product(_before(y, *segments), of_product)", "_product(_before(y, *segments), sums)"),
    ("LSTM: the forget gate's slope from the memory behind it", STATES, "of_c * before * f * (1 - f)", "of_c * c * f * (1 - f)"),
    ("LSTM: the memory's signal is not forgotten", STATES, "(1,), (1,)), of_c * f), back", "(1,), (1,)), of_c), back"),
    ("LSTM: the forget gate starts half open", STATES, ".at[n : 2 * n].set(1)", ".at[n : 2 * n].set(0)"),
    ("recurrent layers: u of the state behind", STATES, "jnp.pad(states[:, :-1], ((0, 0), (1, 0), (0, 0)))", "states"),
    ("recurrent layers: gates draw alike", STATES, "jax.random.split(key, (2, gates))", "jnp.broadcast_to(key, (2, gates))"),
    ("attention: a position sees the next", ATTEND, "places[:, None] >= jnp.arange(reach)", "places[:, None] + 1 >= jnp.arange(reach)"),
    ("attention: scores are not scaled", ATTEND, "self._d**-0.5  # (m, key", "1.0  # (m, key"),
    ("attention: scores are not scaled backwards", ATTEND, "- along) * self._d**-0.5)", "- along))"),
    ("attention: Σ δ ⊙ o forgotten", ATTEND, "_product(values, signal, (3,), (4,)) - along)", "_product(values, signal, (3,), (4,)))"),
    ("attention: blocks reach one key less", ATTEND, "size, stop if self.causal", "size, stop - 1 if self.causal"),
    ("attention: what sees nothing takes the mean of all", ATTEND, "return weights if seen is None or segments is None else jnp.where(seen, weights, 0)", "return weights"),
    ("attention: what is masked has an ordinary score", ATTEND, "jnp.finfo(scores.dtype).min", "-1e30"),
    ("attention: nothing is masked backwards", ATTEND, "[:, None, :, None]\n            scores = _masked(scores, seen)", "[:, None, :, None]"),
    ("attention: padding sees padding", ATTEND, "(of_q == of_k) & (of_k > 0)", "of_q == of_k"),
    ("attention: key heads dealt out in turn", ATTEND, "keys, features // (keys * self._d), self._d).transpose(0, 2, 3, 1, 4)", "features // (keys * self._d), keys, self._d).transpose(0, 3, 2, 1, 4)"),
    ("attention: keys hear the last block alone", ATTEND, "tuple(map(jnp.add, sums, more))", "more"),
    ("attention: exp of the scores as they are", ATTEND, "largest = jnp.max(scores, -1, keepdims=True)", "largest = 0 * jnp.max(scores, -1, keepdims=True)"),
    ("made again: the values dropped", WORK, "return values + 0 * jnp.where(jnp.isfinite(one), one, 0)", "return 0 * values + jnp.where(jnp.isfinite(one), one, 0)"),
    ("made again: an error signal that is not finite reaches all", WORK, "0 * jnp.where(jnp.isfinite(one), one, 0)", "0 * one"),
    ("repeat: back in the order of the way there", STACK, "(params, tape), reverse=True,", "(params, tape),"),
    ("repeat: blocks draw alike", STACK, "child_key(context, number)", "child_key(context, 0 * number)"),
    ("repeat: blocks start alike", STACK, "jax.random.fold_in(key, i)", "jax.random.fold_in(key, 0 * i)"),
    ("remat: made again from the parameters of backward", STACK, "self._made(again, not_before", "self._made(params, not_before"),
    ("remat: made again without its key", STACK, "layer_forward(self.layer, params, x, context)[1]", "layer_forward(self.layer, params, x, Context())[1]"),
    ("last: the first", POOL, "return x[:, -1], shape_alone(x)", "return x[:, 0], shape_alone(x)"),
    ("last: the error at the first", POOL, "(tape.shape[1] - 1, 0), (0, 0)", "(0, tape.shape[1] - 1), (0, 0)"),
    ("gpt: branches end at the size of the others", GPT, "Normal(STD / math.sqrt(2 * depth))", "Normal(STD)"),
    ("gpt: keys are not turned", GPT, "Rotary(heads + 2 * keys, heads + keys)", "Rotary(heads + 2 * keys, heads)"),
]  # fmt: skip

GEN, PLACES, RECUR = "generation.py", "layers/positions.py", "layers/recurrent.py"
HEAD = "derivations/attention_head.py"
ERRORS += [
    ("generation: the key behind is seen", ATTEND, "(jnp.arange(keys.shape[2]) <= place)", "(jnp.arange(keys.shape[2]) <= place + 1)"),
    ("generation: keys are kept one place on", ATTEND, "one.astype(old.dtype), place, 2", "one.astype(old.dtype), place + 1, 2"),
    ("generation: the first position's row at all", PLACES, "jnp.take(params[\"e\"], place, 0)", "jnp.take(params[\"e\"], 0 * place, 0)"),
    ("generation: nothing is turned", PLACES, "jnp.take(jnp.asarray(side, wide(x).dtype), place, 0)", "jnp.take(jnp.asarray(side, wide(x).dtype), 0 * place, 0)"),
    ("generation: a GRU starts anew", RECUR, "self._next(params, cache.astype(x.dtype), ", "self._next(params, 0 * cache.astype(x.dtype), "),
    ("generation: an LSTM forgets its memory", RECUR, "return new, (new.astype(h.dtype), c)", "return new, (new.astype(h.dtype), 0 * c)"),
    ("generation: a residual step without its input", COMB, "return x + y, cache", "return y, cache"),
    ("generation: a prompt is written over", GEN, "given = place + 1 < sizes", "given = place + 2 < sizes"),
    ("generation: the whole text read one token too far", GEN, "<= place)[None].astype(jnp.int32)", "<= place + 1)[None].astype(jnp.int32)"),
    ("generation: temperature without effect", GEN, "logits = wide(logits) * sharpness", "logits = wide(logits)"),
    ("generation: top_p stops a token early", GEN, "jnp.cumsum(p, -1) - p < top_p", "jnp.cumsum(p, -1) < top_p"),
    ("generation: top_k keeps one more", GEN, "lax.top_k(logits, self.top_k)[0][:, -1:]", "lax.top_k(logits, self.top_k + 1)[0][:, -1:]"),
    ("generation: all rows draw alike", GEN, "jnp.arange(len(logits)))", "jnp.zeros(len(logits), int))"),
    ("generation: a prompt's token stops its text", GEN, "ended | (~given & (new == drawn.stop))", "ended | (new == drawn.stop)"),
    ("generation: a text goes on behind its stop", GEN, "new = jnp.where(ended, drawn.stop, new)", "new = jnp.where(ended, new, new)"),
    ("tied: rounding may make a norm too small", "layers/embedding.py", " + 8 * jnp.finfo(h.dtype).eps * jnp.square(most)", ""),
    ("flow: an activation behind attention is the projection's", "per_example/signals.py", "followed, columns_of = True,", "followed, columns_of = False,"),
    ("flow: parts of what is not the whole input", "per_example/signals.py", "if signals.size != max(", "if signals.size < 0 * max("),
    ("diagnosis: a stack's layers count once", "diagnosis/trials.py", "for _, _, own in leaves(net, tree)", "for own in jax.tree.leaves(tree, is_leaf=lambda part: isinstance(part, dict))"),
    ("segments: a state goes on into the next text", RECUR, "next_of(_where(goes_on, state), sums)", "next_of(state, sums)"),
    ("segments: padding has a state", RECUR, "_where(there, state), _where(there, kept)", "state, kept"),
    ("segments: an error signal goes back into the text before", RECUR, "return _where(goes_on, carried), signals", "return carried, signals"),
    ("segments: states of the text before in a gradient", RECUR, "before if segments is None else _where(goes_on(segments), before)", "before"),
    ("segments: positions count on", PLACES, "return numbers - lax.cummax(first, 1)", "return numbers + 0 * first"),
    ("segments: padding takes a row of positions", PLACES, "jnp.where((rows < self.length)[..., None], wide(deltas), 0)", "wide(deltas)"),
    ("segments: the last position is padding", "layers/pooling.py", "jnp.where(segments > 0, places, -1)", "jnp.where(segments >= 0, places, -1)"),
    ("segments: padding takes part in a mean", "layers/pooling.py", "there = (segments > 0)[..., None]", "there = (segments >= 0)[..., None]"),
    ("segments: a replaced example keeps its own", "_core/arguments.py", "segments if segments is None else replaced(segments, example)", "segments"),
    ("segments: not handed on to the layers", "propagation.py", "Context(batch.key, batch.segments)", "Context(batch.key)"),
    ("segments: a training without them", "layers/segment_columns.py", "context_of(key)._replace(segments=segments)", "context_of(key)"),
    ("checks: a mean over examples alone", "check/checks.py", "loss.value(bp.output, batch.y), batch.weights", "bp.costs, batch.weights"),
    ("checks: without the segments", "check/checks.py", "if segments is None else (_input(at, x), segments)", "if True else (_input(at, x), segments)"),
    ("worksheet of a head: scores not over √d", HEAD, ' / math.sqrt(d), -np.inf', ', -np.inf'),
    ("worksheet of a head: √d left out of the sum", HEAD, '({whole}) / {divisor}" if root > 1', '({whole}) / {divisor}" if root > 9'),
    ("worksheet of a head: queries see what is behind", HEAD, "np.tri(T) > 0 if head.causal", "np.tri(T) > -1 if head.causal"),
    ("worksheet of a head: a key's queries and keys swapped", HEAD, "else (other, i) for other", "else (i, other) for other"),
    ("worksheet of a head: the mean of ∂J/∂P left out", HEAD, '(numbers["∂P"] - numbers["D"][:, None])', 'numbers["∂P"]'),
    ("worksheet of a head: what took the place of a target", HEAD, "np.where(np.isfinite(own), own, checked)", "checked"),
    ("worksheet of a head: shares left out", HEAD, "np.float64)[0] * shares[:, None]", "np.float64)[0]"),
    ("worksheet of a head: values named as keys", HEAD, 'divmod(at[1], run.numbers["o"].shape[1])', 'divmod(at[1] % (2 * run.numbers["o"].shape[1]), run.numbers["o"].shape[1])'),
    ("windows: y is x", "train/token_files.py", "for start in (0, 1))", "for start in (0, 0))"),
    ("windows: y two ahead", "train/token_files.py", "for start in (0, 1))", "for start in (0, 2))"),
    ("windows: a copy", "train/token_files.py", "(tokens[start : start", "(+tokens[start : start"),
    ("windows: a window less", "train/token_files.py", "number = (len(tokens) - 1) // length", "number = (len(tokens) - 2) // length"),
    ("a Parallel is taken for a stack", "_core/walkers.py", "callable(getattr(layer, \"join\", None))", "hasattr(layer, \"join\")"),
]  # fmt: skip


def rooms_of(file: str) -> tuple[list[str], list[str]]:
    """The tests that mirror a file of the package, which run first, and the others that may catch an error in it."""
    training = file.startswith("train/") or file in (CAST, FILE, FILES, PRINTS)
    path = pathlib.PurePath(file)
    mirror = {FIRST.get(file), f"test_{path.stem}", f"{path.parent}/test_{path.stem}"}
    rooms = TRAINING if training else ORDER
    first = [room for room in rooms if room in mirror] or [
        room for room in rooms if room.startswith(f"{path.parts[0]}/")
    ]
    return first, [room for room in rooms if room not in first]


def failing(folder: str, rooms: list[str], cache: pathlib.Path) -> str | None:
    """The first fast test that fails in a copy of the package, or None."""
    files = [f"tests/{name}.py" for name in rooms]
    options = ["-m", "fast", "-x", "-q", "-n", "0", "-p", "no:cacheprovider"]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": folder}
    command = [sys.executable, "-m", "pytest", *options, *files]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if run.returncode not in (0, 1):
        return f"(tests did not run: {run.stdout.strip().splitlines()[-1]})"
    failed = [line.split(" ")[1] for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0] if failed else None


def plant(number: int, cache: pathlib.Path) -> str | None:
    """Run the fast tests with one error (none for -1): the test that failed, or None."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder)
        for name in ("funcnet", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        stages = [[*ORDER, *TRAINING]]
        if number >= 0:
            what, file, old, new = ERRORS[number]
            path = copy / "funcnet" / file
            text = path.read_text()
            if old not in text:
                raise SystemExit(f"{what}: {file} no longer holds {old!r}. Bring the row up to date.")
            path.write_text(text.replace(old, new))
            stages = list(rooms_of(file))
        return next((test for rooms in stages if (test := failing(folder, rooms, cache))), None)


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

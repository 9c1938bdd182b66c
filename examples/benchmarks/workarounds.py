"""funcnet's ways around XLA on CPUs (`funcnet/_core/workarounds.py`): what each gains, and whether it is still needed.

For speed the plain form and funcnet's are compiled apart and measured in one run, interleaved; 1.00 is a draw, below
it funcnet's form is faster. A form that no longer gains anything on the newest jax can go. For correctness the plain
form runs in a process of its own, since it may crash. With funcnet installed, from the repository's root:

    python examples/benchmarks/workarounds.py
    python examples/benchmarks/workarounds.py --quick
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from clocks import against, interleaved, machine, parser_of, write

import funcnet as fn
from funcnet._core import contractions, convolutions, numerics, workarounds

OUTER = ((1024, 512, 10), (128, 784, 10), (1024, 784, 64))  # rows, inputs, outputs
MASKED = ((1024, 784, 128), (128, 512, 512))

MIRRORED = """
import jax, jax.numpy as jnp, numpy as np
product = lambda a: a.T @ a
whole = lambda a: jnp.where(jnp.tri(a.shape[1], dtype=bool).T, product(a), product(a).T)
a = np.random.default_rng(0).standard_normal((1024, 784), dtype=np.float32)
np.testing.assert_allclose(jax.jit(whole)(a), a.T @ a, rtol=1e-3, atol=1e-2)
"""

SCALED_ROWS = """
import jax, jax.numpy as jnp, numpy as np
rows = np.random.default_rng(0).standard_normal((3, 40_000), dtype=np.float32)
share = np.float32(1 / 40_000)
np.testing.assert_allclose(jax.jit(jax.vmap(lambda r: jnp.sum(r * share)))(rows), (rows * share).sum(1), atol=1e-5)
"""

Timed = Callable[[], None]


def timed(function: Callable[..., jax.Array], *arguments: jax.Array, repeats: int) -> Callable[[], float]:
    """Seconds for one call of the compiled function."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            jax.block_until_ready(compiled(*arguments))
        return (time.perf_counter() - start) / repeats

    return seconds


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def outer_products(m: int, n: int, k: int) -> tuple[Callable[..., jax.Array], ...]:
    plain = partial(numerics.sum_of_products, a_axes=(0,), b_axes=(0,))
    return plain, workarounds.sum_of_outer_products


def masked(m: int, n: int, k: int) -> tuple[Callable[..., jax.Array], ...]:
    """A clipped sum, with and without the barrier behind the mask."""
    layer, weights = fn.Dense(n, k), jnp.ones(m).at[0].set(0.0)

    def ours(x: jax.Array, delta: jax.Array) -> jax.Array:
        return contractions.weighted_sum(layer, x, delta, weights)["w"]

    def plain(x: jax.Array, delta: jax.Array) -> jax.Array:
        counts = (weights != 0)[:, None]
        stand_in = x[jnp.argmax(counts)][None]
        return layer.gradient(jnp.where(counts, x, stand_in), jnp.where(counts, delta * weights[:, None], 0))["w"]

    return plain, ours


def kernel_gradient(layer: fn.Conv) -> tuple[Callable[..., jax.Array], ...]:
    """A kernel's gradient inside a loop, as a training is: in the layout that jax.grad uses, and in ours."""

    def ours(x: jax.Array, delta: jax.Array) -> jax.Array:
        return layer.gradient(x, delta)["w"]

    def plain(x: jax.Array, delta: jax.Array) -> jax.Array:
        with workarounds.set_aside():
            return ours(x, delta)

    return in_a_loop(plain), in_a_loop(ours)


def depthwise(layer: fn.Conv) -> tuple[Callable[..., jax.Array], ...]:
    """A depthwise convolution of n features forward, of images and (taken from the same arrays) kernels."""

    def ours(x: jax.Array, delta: jax.Array) -> jax.Array:
        return layer.forward({"w": delta[0, :3, :3, None], "b": delta[0, 0, 0]}, x)[0]

    def plain(x: jax.Array, delta: jax.Array) -> jax.Array:
        with workarounds.set_aside():
            return ours(x, delta)

    return in_a_loop(plain), in_a_loop(ours)


def transposed(layer: fn.Conv) -> tuple[Callable[..., jax.Array], ...]:
    """∂J/∂x with a stride: the signals put apart by the convolution itself (ours), or by padding before it."""
    kernel = normal(2, 3, 3, layer.n_in, layer.n_out)

    def ours(x: jax.Array, delta: jax.Array) -> jax.Array:
        return layer.backward({"w": kernel}, x, delta)[0]

    def padded(x: jax.Array, delta: jax.Array) -> jax.Array:
        window = layer._window(x)
        gaps = [(0, 0, 0), *((0, 0, s - 1) for s in window.stride), (0, 0, 0)]
        apart = window._replace(stride=(1, 1))
        return convolutions.spread(jax.lax.pad(delta, jnp.float32(0), gaps), kernel, apart)

    return in_a_loop(padded), in_a_loop(ours)


def in_a_loop(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """f four times, each time on other numbers."""

    def run(x: jax.Array, delta: jax.Array) -> jax.Array:
        def step(total: jax.Array, _: None) -> tuple[jax.Array, None]:
            return total + jnp.sum(jax.lax.optimization_barrier(f(x * (1 + 0 * total), delta))), None

        return jax.lax.scan(step, jnp.float32(0), None, length=4)[0]

    return run


def zeros_of(layer: fn.Conv) -> dict[str, jax.Array]:
    return jax.tree.map(lambda like: jnp.zeros(like.shape, jnp.float32), jax.eval_shape(layer.init, jax.random.key(0)))


def fault(name: str, program: str) -> bool:
    """Whether the plain form is still wrong."""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True)
    print(f"{name:<46} {'still needed: the plain form fails' if run.returncode else 'no longer needed here'}")
    return run.returncode != 0


def main() -> None:
    options = parser_of(__doc__, rounds=60).parse_args()
    on, results = machine(), {}
    rounds = 5 if options.quick else options.rounds
    print(f"{'ours / plain, median and quartiles':<46}")
    for name, forms, shapes in (("few outputs", outer_products, OUTER), ("barrier behind a mask", masked, MASKED)):
        for m, n, k in shapes:
            arrays = normal(0, m, n), normal(1, m, k)
            plain, ours = (timed(form, *arrays, repeats=5) for form in forms(m, n, k))
            median, low, high = against(interleaved({"ours": ours, "plain": plain}, rounds), "ours", "plain")
            results[f"{name}, {m} × {n} → {k}"] = median
            print(f"{f'{name}, {m} rows, {n} → {k}':<46} {median:.2f}  [{low:.2f}, {high:.2f}]", flush=True)
    print("convolutions, in a loop")
    for name, forms, layer, size in (
        ("a kernel's gradient", kernel_gradient, fn.Conv(32, 64, (3, 3)), 14),
        ("depthwise, forward", depthwise, fn.Conv(64, 64, (3, 3), groups=64), 16),
        ("transposed, put apart inside / before", transposed, fn.Conv(16, 32, (3, 3), 2), 32),
    ):
        x = normal(0, 64, size, size, layer.n_in)
        delta = normal(1, *jax.eval_shape(lambda x, layer=layer: layer.forward(zeros_of(layer), x)[0], x).shape)
        plain, ours = (timed(form, x, delta, repeats=1) for form in forms(layer))
        median, low, high = against(interleaved({"ours": ours, "plain": plain}, rounds // 5), "ours", "plain")
        results[f"{name}, {layer}"] = median
        print(f"{name:<46} {median:.3f}  [{low:.3f}, {high:.3f}]", flush=True)
    results["where(upper, matrix, matrix.T)"] = fault("where(upper, matrix, matrix.T)", MIRRORED)
    results["jit(vmap(sum of scaled rows))"] = fault("jit(vmap(sum of scaled rows)), excluded", SCALED_ROWS)
    write(options.json, on, results)


if __name__ == "__main__":
    main()

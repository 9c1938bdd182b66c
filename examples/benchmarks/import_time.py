"""What `import funcnet` costs beside `import optax`, which every user of it imports anyway.

Every import runs in a fresh interpreter and is timed inside it, so that starting Python is not counted. In
each round, in another order every round, three interpreters import

    optax                   and its import is timed
    funcnet                 which imports optax in its turn; the whole is timed
    optax, then funcnet     and the second import alone is timed

The cost is funcnet's time less optax's within a round, and once more, directly, the time of funcnet when
optax is there already. The direct figure is the steadier one: the difference is small beside what is
subtracted. Printed are medians over the rounds in milliseconds, with quartiles; and which of the packages
that funcnet leaves to its extras were imported all the same: there should be none. With funcnet installed,
from the repository's root:

    python examples/benchmarks/import_time.py

Imports that are not counted come first and leave the bytecode behind, so the figures are those of every
import but the first.
"""

import argparse
import json
import os
import subprocess
import sys
from itertools import permutations

import numpy as np

EXTRAS = {"sklearn", "matplotlib", "orbax", "safetensors", "tqdm", "flax", "equinox", "dp_accounting"}
EXTRAS |= {"hypothesis", "pytest"}

# What is imported before the clock starts, and while it runs.
IMPORTS = (("sys", "optax"), ("sys", "funcnet"), ("optax", "funcnet"))

CHILD = """
import sys, time
import {before}
start = time.perf_counter()
import {timed}
seconds = time.perf_counter() - start
packages = sorted({{name.split(".")[0] for name in sys.modules}})
import json
print(json.dumps([seconds, packages]))
"""


def imported(before: str, timed: str) -> tuple[float, set[str]]:
    """The milliseconds that one import takes in a fresh interpreter, and the packages that are loaded after it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-P", "-c", CHILD.format(before=before, timed=timed)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds, packages = json.loads(done.stdout.splitlines()[-1])
    return 1e3 * seconds, set(packages)


def shown(times: np.ndarray) -> str:
    low, middle, high = np.percentile(times, (25, 50, 75))
    return f"{middle:7.1f} ms  [{low:.1f} to {high:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed imports of each kind")
    rounds = parser.parse_args().rounds

    for before, timed in IMPORTS:
        _, packages = imported(before, timed)
    times = np.empty((rounds, len(IMPORTS)))
    orders = list(permutations(range(len(IMPORTS))))
    for i in range(rounds):
        for which in orders[i % len(orders)]:
            times[i, which], _ = imported(*IMPORTS[which])

    optax, funcnet, directly = times.T
    print(f"medians and quartiles of {rounds} rounds, Python {sys.version.split()[0]}")
    print(f"import optax              {shown(optax)}")
    print(f"import funcnet            {shown(funcnet)}")
    print(f"funcnet less optax        {shown(funcnet - optax)}")
    print(f"funcnet, optax imported   {shown(directly)}")
    print(f"extras imported: {', '.join(sorted(packages & EXTRAS)) or 'none'}")


if __name__ == "__main__":
    main()

"""The values of expressions as `formula` and a worksheet have them: "½ z (1 + t) with t = tanh(z)"."""

import math
import re

FUNCTIONS = {
    "exp": math.exp, "log": math.log, "tanh": math.tanh, "cosh": math.cosh, "max": max, "min": min, "abs": abs,
    "sign": lambda x: (x > 0) - (x < 0), "σ": lambda x: 1 / (1 + math.exp(-x)),
    "Φ": lambda x: 0.5 * math.erfc(-x / math.sqrt(2)),
    "φ": lambda x: math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
}  # fmt: skip


def evaluated(expression, **letters):
    body, _, clause = expression.partition(" with ")
    if clause and clause.partition(" = ")[0] not in letters:
        name, _, rest = clause.partition(" = ")
        letters |= {name: evaluated(rest, **letters)}
    if choice := re.fullmatch(r"(.*) where (.*), else (.*)", body):
        chosen, condition, other = choice.groups()
        return evaluated(chosen if evaluated(condition, **letters) else other, **letters)
    code = re.sub(r"\|([^|]*)\|", r"abs(\1)", body)
    for sign, python in (("²", "**2"), ("³", "**3"), ("½", "0.5"), ("×", "*"), ("−", "-"), ("≥", ">=")):
        code = code.replace(sign, python)
    code = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", code)
    return eval(code, FUNCTIONS | letters)

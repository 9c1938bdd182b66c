"""How a quantity is written: for a terminal, in LaTeX, and in HTML."""

import dataclasses
import html
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from funcnet._core import scalars
from funcnet._core.arrays import is_list, shown
from funcnet._core.protocols import ArrayLike, Params

Form = Literal["text", "latex", "html"]
Names = tuple[tuple[str, ...] | None, ...]

RAISED = str.maketrans("0123456789()l", "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾ˡ")
LOWERED = str.maketrans("0123456789ijkst", "₀₁₂₃₄₅₆₇₈₉ᵢⱼₖₛₜ")
GREEK = {"θ": r"\theta", "δ": r"\delta", "η": r"\eta"}
OUTSIDE_TEXT = {"\\": r"\backslash ", "^": r"{\wedge}", "~": r"\sim ", "<": "{<}", ">": "{>}"} | {
    mark: rf"\{mark} " for mark in "{}$%&#_"
}


@dataclasses.dataclass(frozen=True)
class Written:
    """The same thing written three ways."""

    text: str
    latex: str
    html: str


NOTHING = Written("", "", "")


@dataclasses.dataclass(frozen=True)
class Pen:
    """Writes symbols in one form, with the reader's letter for weights and names for units.

    Attributes:
        form: "text", "latex" or "html".
        letter: "θ" or "w".
        names: for every layer, the input first, its units' names, or None to number them from 1.
        digits: significant digits of a number.
        dtype: the type of the numbers, which are written with no more digits than it takes to tell them apart in it.
    """

    form: Form
    letter: str
    names: Names
    digits: int
    dtype: str = "float64"

    def symbol(
        self, letter: str, layer: int | str | None = None, units: Sequence[str] = (), named: bool = False
    ) -> str:
        """`letter` with the layer in brackets above and the units below."""
        above, below = "" if layer is None else f"({layer})", ",".join(units)
        if self.form == "latex":
            return GREEK.get(letter, letter) + (f"^{{{above}}}" if above else "") + (f"_{{{below}}}" if below else "")
        if self.form == "html":
            raised, lowered = (
                f"<{tag}>{part}</{tag}>" if part else "" for tag, part in (("sup", above), ("sub", below))
            )
            return f"<i>{letter}</i>{raised}{lowered}"
        return letter + above.translate(RAISED) + (f"_{{{below}}}" if named else below.translate(LOWERED))

    def unit(self, layer: int, index: int) -> str:
        """A unit's name or, without one, its number counted from 1."""
        names = self.names[layer]
        return str(index + 1) if names is None else self.words(names[index])

    def words(self, name: str) -> str:
        """A reader's own words, which may hold anything, as plain text of this form."""
        name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
        if self.form == "html":
            return html.escape(name)
        if self.form == "latex":
            escaped = "".join(f"}}{OUTSIDE_TEXT[c]}\\text{{" if c in OUTSIDE_TEXT else c for c in name)
            return f"\\text{{{escaped}}}".replace(r"\text{}", "")
        return name

    def at(self, letter: str, layer: int, index: int) -> str:
        """A unit's z, a or δ."""
        return self.symbol(letter, layer, [self.unit(layer, index)], self.names[layer] is not None)

    def activation(self, layer: int, index: int, direct: bool) -> str:
        """A unit's a; for an input that comes in as it is, x."""
        if layer or not direct:
            return self.at("a", layer, index)
        return self.symbol("x", None, [self.unit(0, index)], self.names[0] is not None)

    def parameter(self, layer: int, source: int | None, to: int) -> str:
        """A weight, to before from, or for a source of None a bias."""
        if source is None:
            return self.at("b", layer, to)
        named = self.names[layer] is not None or self.names[layer - 1] is not None
        return self.symbol(self.letter, layer, [self.unit(layer, to), self.unit(layer - 1, source)], named)

    def cost(self, example: int | None) -> str:
        """J, or an example's own."""
        return self.symbol("J", None, () if example is None else [str(example + 1)])

    def target(self, layer: int, index: int) -> str:
        """What an output should be."""
        return self.symbol("y", None, [self.unit(layer, index)], self.names[layer] is not None)

    def share(self) -> str:
        """∂J/∂J_i."""
        return self.partial(self.cost(None), self.symbol("J", None, ["i"]))

    def over_examples(self, term: str) -> str:
        """Σ_i of a term."""
        return {"latex": r"\sum_i ", "text": "Σᵢ ", "html": "Σ<sub>i</sub> "}[self.form] + term

    def applied(self, function: str, to: str, prime: str = "") -> str:
        """A function's value, by the code of its spec; for none, what goes in."""
        if not function:
            return to
        mark = "'" if prime and self.form == "latex" else prime
        return f"{self.words(function.replace('()', ''))}{mark}({to})"

    def becomes(self, symbol: str) -> str:
        """The symbol of what an update leaves behind."""
        return (r"\text{new }" if self.form == "latex" else "new ") + symbol

    def partial(self, of: str, by: str) -> str:
        """∂of/∂by."""
        if self.form == "latex":
            return rf"\frac{{\partial {of}}}{{\partial {by}}}"
        if self.form == "html":
            return f'<span class="fraction"><span>∂{of}</span><span>∂{by}</span></span>'
        return f"∂{of}/∂{by}"

    def number(self, value: float) -> str:
        """A number to this many digits, or to the fewest that are it in its type; NaN and infinity as such."""
        if math.isnan(value):
            return r"\mathrm{NaN}" if self.form == "latex" else "NaN"
        if math.isinf(value):
            return ("-" if value < 0 else "") + (r"\infty" if self.form == "latex" else "∞")
        written = shortest(value + 0.0, self.digits, self.dtype)
        if self.form == "text":
            return written
        mantissa, _, exponent = written.partition("e")
        if self.form == "latex":
            return mantissa + (rf" \cdot 10^{{{int(exponent)}}}" if exponent else "")
        return (mantissa + (f"·10<sup>{int(exponent)}</sup>" if exponent else "")).replace("-", "−")

    def inline(self, symbol: str) -> str:
        """A symbol in a sentence, where no line ends within it."""
        if self.form == "latex":
            return f"${symbol}$"
        whole = symbol.replace(" ", "\u00a0")
        return whole.replace("-", "−") if self.form == "html" else whole

    def operand(self, value: float) -> str:
        """A number behind an operator: in brackets if it is negative."""
        return f"({self.number(value)})" if value < 0 else self.number(value)

    def product(self, factors: Sequence[str]) -> str:
        """Written numbers multiplied."""
        return (r" \times " if self.form == "latex" else " × ").join(factors)

    def times(self, *values: float) -> str:
        """Numbers multiplied."""
        return self.product([self.number(values[0]), *map(self.operand, values[1:])])

    def plus(self, terms: Sequence[str]) -> str:
        """Terms added, in brackets where there are several."""
        return f"({' + '.join(terms)})" if len(terms) > 1 else terms[0]

    def sum_of_products(self, pairs: Sequence[tuple[float, float]]) -> list[str]:
        """The terms of Σ a b in numbers, a negative one behind a plus in brackets."""
        return [self.times(*pairs[0]), *(self.product([*map(self.operand, pair)]) for pair in pairs[1:])]

    def sum_over(self, layer: int, to: int) -> str:
        """Σ_k δ_k θ_{k, to} over the units k of a layer."""
        delta = self.symbol("δ", layer, ["k"])
        weight = self.symbol(self.letter, layer, ["k", self.unit(layer - 1, to)], self.names[layer - 1] is not None)
        sign = {"latex": r"\sum_k ", "text": "Σₖ ", "html": "Σ<sub>k</sub> "}[self.form]
        return f"({sign}{delta} {weight})"

    def dot(self, *symbols: str) -> str:
        """Symbols multiplied."""
        return (r" \cdot " if self.form == "latex" else " · ").join(symbols)


@dataclasses.dataclass(frozen=True)
class Pens:
    """One pen for each form."""

    text: Pen
    latex: Pen
    html: Pen

    def __call__(self, line: Callable[[Pen], str]) -> Written:
        return Written(line(self.text), line(self.latex), line(self.html))


def type_of(params: Params, x: ArrayLike) -> str:
    """The floating type of a network's numbers."""
    kind = jnp.result_type(*jax.tree.leaves(params)[:1] or [jnp.asarray(x)])
    return str(kind) if jnp.issubdtype(kind, jnp.floating) else "float64"


def shortest(value: float, digits: int, dtype: str) -> str:
    """A number to so many significant digits, or to the fewest that lie closer to it than to its neighbours in a type.

    0.3 in float32 is 0.300000011920929, which no float32 is nearer to than to 0.3.
    """
    half = math.ldexp(float(jnp.finfo(dtype).eps), math.frexp(value)[1] - 2)
    for count in range(1, digits):
        near = float(f"{value:.{count}g}")
        if abs(near - value) < half:
            whole = int(f"{near:e}".partition("e")[2]) + 1  # digits before the point, all written as long as they fit
            return f"{near:.{max(count, whole if whole <= digits else 0)}g}"
    return f"{value:.{digits}g}"


def pens(letter: str, names: Names, digits: int, dtype: str) -> Pens:
    """The three pens, once their arguments are checked."""
    scalars.choice("notation", letter, ("θ", "w"))
    scalars.integer("digits", digits, "1 to 17 significant digits", 1, 17)
    return Pens(*(Pen(form, letter, names, digits, dtype) for form in ("text", "latex", "html")))


def checked_names(names: Any, sizes: Sequence[int]) -> Names:
    """The units' names, one tuple (or None) for every layer with the input first."""
    if names is None:
        return (None,) * len(sizes)
    wanted = f"names: expected {len(sizes)} lists, for the input and each layer with parameters, of sizes {list(sizes)}"
    remedy = "None for a layer numbers its units."
    if not is_list(names) or len(names) != len(sizes):
        raise ValueError(f"{wanted}, got {shown(names)}. {remedy}")
    for layer, (given, size) in enumerate(zip(names, sizes)):
        if given is not None and (not is_list(given) or len(given) != size):
            raise ValueError(f"{wanted}, but names[{layer}] is {shown(given)}. {remedy}")
    return tuple(None if given is None else tuple(map(str, given)) for given in names)


@dataclasses.dataclass(frozen=True)
class Equation:
    """name = formula = numbers = value, and a note in plain words if there is one to make.

    `given`: whether the value is known before anything is computed.
    """

    name: Written
    formula: Written
    numbers: Written
    value: float
    note: str = ""
    given: bool = False

"""What the derivative by one weight is made of: a product of factors for every path, and their sum."""

import dataclasses

from funcnet.derivations.notation import Equation, Written


@dataclasses.dataclass(frozen=True)
class Factor:
    """One partial derivative: its name for a terminal, in LaTeX and in HTML, and its value."""

    name: str
    latex: str
    html: str
    value: float


@dataclasses.dataclass(frozen=True)
class Path:
    """One path from the cost to the weight.

    Attributes:
        factors: from the cost down to the weight.
        product: of the factors' values.
        units: array indices of the units it goes through, from the weight's own layer to the output.
        example: the example that it belongs to.
    """

    factors: tuple[Factor, ...]
    product: float
    units: tuple[int, ...]
    example: int


@dataclasses.dataclass(frozen=True)
class Part:
    """One example's part in the derivative: share · delta · input.

    Attributes:
        example: its index.
        share: ∂J/∂J_i.
        delta: ∂J_i/∂z of the unit that the weight leads to.
        input: ∂z/∂θ, what comes in through the weight; 1 for a bias.
        value: the product.
    """

    example: int
    share: float
    delta: float
    input: float
    value: float


@dataclasses.dataclass(frozen=True, repr=False)
class Terms:
    """A derivative as plain data.

    Attributes:
        value: ∂J/∂θ, the entry of the gradient.
        paths: those written out: all, in order of their units, or the largest, largest first.
        rest: the sum of the paths that are not written out.
        path_count: how many paths there are, over all examples that are derived.
        factor_count: how many factors the derivative of one example has, written out along all its paths.
        difference: the sum of all paths minus `value`: rounding, unless something is wrong.
        steps: the same regrouped into error terms, for one example; empty for several.
        parts: each example's part; they sum to the same again.
        label: of the weight; title: ∂J/∂ it.
        parameter: the weight's own value.
        about: where it stands, in words.
        of: which example is derived, or how several are put together; "" where there is but one.
        headings: names of ∂J/∂J_i, δ and the input, of which `parts` are made.
        digits, dtype: significant digits of the numbers as they are printed, and the type that they are of.
    """

    value: float
    paths: tuple[Path, ...]
    rest: float
    path_count: int
    factor_count: int
    difference: float
    steps: tuple[Equation, ...]
    parts: tuple[Part, ...]
    label: Written
    title: Written
    parameter: float
    about: str
    of: str
    headings: tuple[Written, ...]
    digits: int
    dtype: str

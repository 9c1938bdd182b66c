"""The expressions in which activations and losses say their value and derivative, with symbols or numbers in them.

An activation's `formula` is two texts, of its value and of its derivative, in z (what comes in) and a (what comes
out): ("1 / (1 + exp(-z))", "a (1 - a)"). A loss's are the cost of one output and its derivative, in a (the output),
y (its target), p (its probability, where the loss has `probabilities`) and C (how many outputs there are):
("½ (a - y)²", "a - y"). The cost is the sum over the outputs. A loss of classes may have a `class_formula`: the cost
where the target is a class, in that class's p alone.

"X where C, else Y" chooses; behind " with " another letter may be defined: "p - y with p = σ(a)".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from funcnet.derivations.notation import OUTSIDE_TEXT, Pen

Formula = tuple[str, str]

LETTER = re.compile(r"\b[zaypC]\b", re.ASCII)
BRACKET = re.compile(r"(?<!\w)(\(([\d.]+) ([-+]) (\|?)([za])\4\))")
FUNCTIONS = {"exp", "log", "tanh", "cosh", "sinh", "sin", "cos", "max", "min"}
WORDS = {"where", "else", "with"}
SIGNS = {
    "½": r"\tfrac{1}{2}", "·": r"\cdot ", "×": r"\times ", "≤": r"\le ", "≥": r"\ge ", "−": "-",
    "σ": r"\sigma ", "Φ": r"\Phi ", "φ": r"\varphi ", "π": r"\pi ", "α": r"\alpha ", "√": r"\surd ", "|": "|",
}  # fmt: skip
EXPONENT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᶻ", "-0123456789z")
TOKEN = re.compile(r"[A-Za-z]{2,}|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᶻ]+|.", re.DOTALL)


def formula_of(spec: Any) -> Formula | None:
    """What a layer or loss says of its value and derivative, or None."""
    formula = getattr(spec, "formula", None)
    if formula is None:
        return None
    if not isinstance(formula, tuple | list) or len(formula) != 2 or not all(isinstance(f, str) for f in formula):
        raise TypeError(
            f"{spec}: formula must be two texts, of the value and of the derivative, such as "
            f'("z²", "2 z"), got {formula!r}.'
        )
    return formula[0], formula[1]


def written(pen: Pen, expression: str, values: Mapping[str, str | float]) -> str:
    """The expression with symbols (texts) or numbers in the place of its letters.

    A letter that has a value needs no definition: the " with " that defines it is left out. A bracket that has a value,
    from `brackets`, is written as that value.
    """
    body, clause = _parted(expression)
    text = body if not clause or clause[0] in values else f"{body} with {clause}"
    pieces, place = [], 0
    whole = [re.escape(piece) for piece in values if piece[:1] == "("]
    for match in re.finditer("|".join([*whole, LETTER.pattern]), text, re.ASCII):
        before, after = text[place : match.start()], text[match.end() :]
        factor = re.search(r"[\d½²³)] $", before) or (place and before == " ")
        pieces += [_plain(pen, before), _value(pen, match[0], values, text[: match.start()], after, bool(factor))]
        place = match.end()
    return "".join([*pieces, _plain(pen, text[place:])])


def brackets(expression: str, values: Mapping[str, float]) -> dict[str, float]:
    """The brackets around a number plus or minus a letter or its size, (1 - a), with their values."""
    found = {}
    for bracket, number, sign, bar, letter in BRACKET.findall(expression):
        value = abs(values[letter]) if bar else values[letter]
        found[bracket] = float(number) + (value if sign == "+" else -value)
    return found


def softmax(pen: Pen, one: str | float, all_of: Sequence[str | float]) -> str:
    """One entry of a softmax: its power over the sum of all."""
    own, *powers = (written(pen, "exp(z)", {"z": value}) for value in (one, *all_of))
    return f"{own} / ({' + '.join(powers)})"


def defined(expression: str, letter: str) -> str:
    """What the expression defines a letter as: "softmax(a)"; "" if it does not."""
    name, _, value = _parted(expression)[1].partition(" = ")
    return value if name == letter else ""


def definition(pen: Pen, expression: str) -> str:
    """What the expression defines, to be written behind it."""
    clause = _parted(expression)[1]
    return _plain(pen, f" with {clause}") if clause else ""


def summed(terms: Sequence[str]) -> str:
    """Written terms added; one that begins with a minus is taken off."""
    first, *others = terms
    return first + "".join(f" - {term[1:]}" if term[:1] == "-" else f" + {term}" for term in others)


def over_outputs(expression: str) -> str:
    """The sum over the outputs k, as a page prints it."""
    body, clause = _parted(expression)
    term = with_index(body)
    several = re.search(r" [-+] | where ", re.sub(r"\([^()]*\)", "", body)) or body[0] == "-"
    return typeset(f"Σₖ ({term})" if several else f"Σₖ {term}") + (f" with {clause}" if clause else "")


def with_index(expression: str) -> str:
    """The expression for output k."""
    return LETTER.sub(lambda match: match[0] if match[0] == "C" else f"{match[0]}ₖ", expression)


def term_of(expression: str) -> str:
    """The expression without the definition of a letter that has a value of its own, p."""
    body, clause = _parted(expression)
    return body if clause[:1] == "p" else expression


def typeset(expression: str) -> str:
    """Minus signs as print has them."""
    return expression.replace("-", "−")


def _parted(expression: str) -> tuple[str, str]:
    body, _, clause = expression.partition(" with ")
    return body, clause


def _value(pen: Pen, letter: str, values: Mapping[str, str | float], before: str, after: str, is_factor: bool) -> str:
    """A symbol or a number, in brackets where it needs them."""
    value = values.get(letter, letter)
    raised = after[:1] in ("²", "³")
    if isinstance(value, str):
        return f"({value})" if raised and value != letter else value
    number = pen.number(value)
    first = not before or before.endswith(("(", "|", ", ", "where ", "else "))
    if (value < 0 and not first) or (raised and (value < 0 or not re.fullmatch(r"[\d.]+", number))):
        number = f"({number})"
    return pen.product(["", number]).lstrip() if is_factor else number


def _plain(pen: Pen, text: str) -> str:
    """What stands between the letters, in the pen's form."""
    return "".join(map(_in_latex, TOKEN.findall(text))) if pen.form == "latex" else pen.words(text)


def _in_latex(token: str) -> str:
    if token in WORDS:
        return rf"\text{{ {token} }}"
    if token in FUNCTIONS:
        return rf"\{token}"
    if token.isascii() and token.isalpha() and len(token) > 1:
        return rf"\operatorname{{{token}}}"
    if token[0] in "⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᶻ":
        return f"^{{{token.translate(EXPONENT)}}}"
    return SIGNS.get(token, OUTSIDE_TEXT.get(token, token))

"""A derivation laid out: lines of text, rows of LaTeX, pieces of HTML."""

import html as markup
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from funcnet.explain.notation import Pen, aligned

if TYPE_CHECKING:
    from funcnet.explain.derivation import Derivation, Part, Path

WIDTH = 100
EXAMPLES = 10  # parts of so many examples are listed

STYLE = """<style>
.funcnet-derivation { font: 15px/1.5 system-ui, sans-serif; overflow-x: auto; }
.funcnet-derivation table { border-collapse: collapse; margin: .4em 0 .8em; background: none; }
.funcnet-derivation td { padding: .1em .35em; text-align: center; white-space: nowrap; border: 0; background: none; }
.funcnet-derivation tr.numbers td { padding-bottom: .7em; opacity: .85; font-variant-numeric: tabular-nums; }
.funcnet-derivation td.name { text-align: right; } .funcnet-derivation td.line { text-align: left; }
.funcnet-derivation .fraction { display: inline-flex; flex-direction: column; vertical-align: middle; }
.funcnet-derivation .fraction { text-align: center; }
.funcnet-derivation .fraction > span:first-child { border-bottom: 1px solid; }
.funcnet-derivation .fraction > span { line-height: 1.35; padding: 0 .15em; }
.funcnet-derivation sup, .funcnet-derivation sub { font-size: .7em; line-height: 0; }
</style>"""


def text(found: "Derivation") -> Iterator[str]:
    """Lines for a terminal."""
    pen, exact = _pens("text", found)
    yield f"{found.title.text} = {exact.number(found.value)}{_of(found)}"
    yield from ["", *textwrap.wrap(f"{found.label.text} = {pen.number(found.parameter)} is {found.about}", WIDTH)]
    yield f"\n{_counted(found)}:"
    yield from _text_chains(found.paths, pen)
    yield ""
    yield from aligned([[name, "=", exact.number(value)] for name, value in _sums(found)])
    if found.steps:
        yield "\nRegrouped, what the paths share computed once:\n"
        width = max(len(step.name.text) for step in found.steps)
        for step in found.steps:
            yield from wrapped(f"  {step.name.text:{width}} = ", step.formula.text)
            yield from wrapped(f"  {'':{width}} = ", f"{step.numbers.text} = {pen.number(step.value)}")
            if step.note:
                yield f"  {'':{width}}   {step.note}"
    else:
        yield f"\n{_parts_heading(found)}:\n"
        head = ["example", *(heading.text for heading in found.headings), "part"]
        signs = ("", "", "× ", "× ", "= ")
        rows = [[sign + cell for sign, cell in zip(signs, _cells(part, pen))] for part in _largest_parts(found)]
        yield from aligned([[" " * len(sign) + name for sign, name in zip(signs, head)], *rows])
    yield f"\nvalue_and_grad gives {exact.number(found.value)}; the sum of all paths differs by {_rounding(found)}."


def latex(found: "Derivation") -> Iterator[str]:
    """Rows of an `aligned` block."""
    pen, exact = _pens("latex", found)
    for path in found.paths:
        start = "&+" if path is not found.paths[0] else f"{found.title.latex} &="
        yield f"{start} {pen.dot(*(factor.latex for factor in path.factors))}"
    left = found.path_count - len(found.paths)
    if left:
        yield rf"&+ \cdots \quad \text{{({left:,} more)}}"
    for place, path in enumerate(found.paths):
        yield f"&{'+' if place else '='} {pen.product(_numbers(path, pen, first=not place))}"
    if left:
        yield f"&+ {pen.operand(found.rest)}"
    yield f"&= {exact.number(found.value)}"
    for step in found.steps:
        yield f"{step.name.latex} &= {step.formula.latex} = {step.numbers.latex} = {pen.number(step.value)}"
        if step.note:
            yield rf"&\quad \text{{({step.note})}}"
    if not found.steps:
        share, delta, came_in = (heading.latex for heading in found.headings)
        yield rf"{found.title.latex} &= \sum_i {share} \cdot {delta} \cdot {came_in}"
        for part in _largest_parts(found):
            yield rf"&\quad i = {part.example + 1}: " + " = ".join(
                [pen.times(part.share, part.delta, part.input), pen.number(part.value)]
            )


def html(found: "Derivation") -> Iterator[str]:
    """Pieces of a page."""
    pen, exact = _pens("html", found)
    yield STYLE
    yield f"<p><b>{found.title.html} = {exact.number(found.value)}</b>{markup.escape(_of(found))}</p>"
    yield f"<p>{found.label.html} = {pen.number(found.parameter)} is {markup.escape(found.about)}</p>"
    yield f"<p>{_counted(found)}:</p><table>"
    for path in found.paths:
        names = "<td>·</td>".join(f"<td>{factor.html}</td>" for factor in path.factors)
        numbers = _numbers(path, pen)
        yield f"<tr>{names}<td></td><td></td></tr>"
        yield f'<tr class="numbers">{"<td>×</td>".join(f"<td>{cell}</td>" for cell in numbers)}'
        yield f"<td>=</td><td>{pen.number(path.product)}</td></tr>"
    yield "</table><table>"
    for name, value in _sums(found):
        yield f'<tr><td class="name">{name}</td><td>=</td><td class="line">{exact.number(value)}</td></tr>'
    yield "</table>"
    if found.steps:
        yield "<p>Regrouped, what the paths share computed once:</p><table>"
        for step in found.steps:
            yield f'<tr><td class="name">{step.name.html}</td><td>=</td><td class="line">{step.formula.html}</td></tr>'
            note = f"<br>{step.note}" if step.note else ""
            yield f'<tr class="numbers"><td></td><td>=</td><td class="line">{step.numbers.html}'
            yield f" = {pen.number(step.value)}{note}</td></tr>"
    else:
        yield f"<p>{_parts_heading(found)}:</p><table>"
        head = [f"<td>{heading.html}</td>" for heading in found.headings]
        yield f"<tr><td>example</td>{'<td></td>'.join(head)}<td></td><td>part</td></tr>"
        for part in _largest_parts(found):
            example, share, *rest, last = (f"<td>{cell}</td>" for cell in _cells(part, pen))
            yield f"<tr>{example}{'<td>×</td>'.join([share, *rest])}<td>=</td>{last}</tr>"
    yield f"</table><p>value_and_grad gives {exact.number(found.value)}; "
    yield f"the sum of all paths differs by {_rounding(found)}.</p>"


def wrapped(start: str, line: str) -> Iterator[str]:
    """A line after its start, broken before a plus where it gets too long."""
    written, *pieces = line.split(" + ")
    written = start + written
    for piece in pieces:
        if len(written) + len(piece) + 3 > WIDTH:
            yield written
            written = " " * len(start) + f"  + {piece}"
        else:
            written += f" + {piece}"
    yield written


def _pens(form: str, found: "Derivation") -> tuple[Pen, Pen]:
    """One for the many numbers, one for those that are compared."""
    return Pen(form, "θ", (), found.digits), Pen(form, "θ", (), max(found.digits, 12))  # type: ignore[arg-type]


def _rounding(found: "Derivation") -> str:
    return Pen("text", "θ", (), 2).number(found.difference)


def _of(found: "Derivation") -> str:
    return f"   ({found.of})" if found.of else ""


def _counted(found: "Derivation") -> str:
    paths = f"{found.path_count:,} paths lead" if found.path_count > 1 else "1 path leads"
    shown = f"; the largest {len(found.paths)}" if found.path_count > len(found.paths) else ""
    return f"{paths} from the cost to it ({found.factor_count:,} factors for one example){shown}"


def _parts_heading(found: "Derivation") -> str:
    return "Regrouped, one product for each example (explain(..., example=0) writes out an example's error terms)"


def _sums(found: "Derivation") -> list[tuple[str, float]]:
    shown, left = sum(path.product for path in found.paths), found.path_count - len(found.paths)
    if not left:
        return [("sum", shown)]
    return [("sum of these", shown), (f"sum of the other {left:,}", found.rest), ("sum", shown + found.rest)]


def _largest_parts(found: "Derivation") -> Sequence["Part"]:
    """Every example's, or the largest, largest first."""
    if len(found.parts) <= EXAMPLES:
        return found.parts
    return sorted(found.parts, key=lambda part: -abs(part.value))[:EXAMPLES]


def _cells(part: "Part", pen: Pen) -> list[str]:
    return [
        f"{part.example} ({pen.cost(part.example)})",
        pen.number(part.share),
        *map(pen.operand, (part.delta, part.input)),
        pen.number(part.value),
    ]


def _numbers(path: "Path", pen: Pen, first: bool = True) -> list[str]:
    """The factors' values; where nothing stands before them, a negative one first needs no brackets."""
    leading, *others = (factor.value for factor in path.factors)
    return [pen.number(leading) if first else pen.operand(leading), *map(pen.operand, others)]


def _text_chains(paths: Sequence["Path"], pen: Pen) -> Iterator[str]:
    """Every path as a line of names over a line of numbers, in columns that all paths share."""
    names = [[factor.name for factor in path.factors] for path in paths]
    numbers = [_numbers(path, pen) for path in paths]
    widths = [max(map(len, column)) for column in zip(*names, *numbers)]
    pieces, used = [[0]], widths[0]
    for place, width in enumerate(widths[1:], 1):
        used += width + 3
        if used > WIDTH - 14:
            pieces, used = [*pieces, []], width
        pieces[-1].append(place)
    for path, above, below in zip(paths, names, numbers):
        yield ""
        for piece in pieces:
            last = piece[-1] == len(widths) - 1
            end = f" = {pen.number(path.product)}" if last else ""
            lead = "  " if piece[0] == 0 else "    "
            for line, sign, tail in ((above, "·", "" if last else " ·"), (below, "×", end or " ×")):
                cells = f" {sign} ".join(line[place].ljust(widths[place]) for place in piece)
                yield lead + (cells.rstrip() if last else cells) + tail

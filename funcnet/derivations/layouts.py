"""A derivation laid out: lines of text, rows of LaTeX, pieces of HTML."""

import html as markup
import textwrap
from collections.abc import Iterator, Sequence

from funcnet._core.tables import aligned
from funcnet.derivations.notation import Form, Pen
from funcnet.derivations.terms import Part, Path, Terms

WIDTH = 100
EXAMPLES = 10  # parts of so many examples are listed

# tr:nth-child(n) is any tr, and outweighs a notebook's style sheet, which stripes rows and moves cells to the right.
STYLE = """<style>
.funcnet-derivation { font: 15px/1.5 system-ui, sans-serif; overflow-x: auto; }
.funcnet-derivation table { border-collapse: collapse; margin: .4em 0 .8em; background: none; }
.funcnet-derivation table tr:nth-child(n) { background: none; }
.funcnet-derivation tr:nth-child(n) td { padding: .1em .35em; text-align: center; white-space: nowrap; border: 0; }
.funcnet-derivation tr.numbers td { padding-bottom: .7em; opacity: .85; font-variant-numeric: tabular-nums; }
.funcnet-derivation table td.name { text-align: right; } .funcnet-derivation table td.line { text-align: left; }
.funcnet-derivation .fraction { display: inline-flex; flex-direction: column; vertical-align: middle; }
.funcnet-derivation .fraction { text-align: center; }
.funcnet-derivation .fraction > span:first-child { border-bottom: 1px solid; }
.funcnet-derivation .fraction > span { line-height: 1.35; padding: 0 .15em; }
.funcnet-derivation sup, .funcnet-derivation sub { font-size: .7em; line-height: 0; }
</style>"""


def text(terms: Terms) -> Iterator[str]:
    """Lines for a terminal."""
    pen, exact = _pens("text", terms)
    yield f"{terms.title.text} = {exact.number(terms.value)}{_of(terms)}"
    yield from ["", *textwrap.wrap(f"{terms.label.text} = {pen.number(terms.parameter)} is {terms.about}", WIDTH)]
    yield f"\n{_counted(terms)}:"
    yield from _text_chains(terms.paths, pen)
    yield ""
    yield from aligned([[name, "=", exact.number(value)] for name, value in _sums(terms)])
    if terms.steps:
        yield "\nRegrouped, what the paths share computed once:\n"
        width = max(len(step.name.text) for step in terms.steps)
        for step in terms.steps:
            yield from wrapped(f"  {step.name.text:{width}} = ", step.formula.text)
            yield from wrapped(f"  {'':{width}} = ", f"{step.numbers.text} = {pen.number(step.value)}")
            if step.note:
                yield f"  {'':{width}}   {step.note}"
    else:
        yield f"\n{_parts_heading(terms)}:\n"
        head = ["example", *(heading.text for heading in terms.headings), "part"]
        signs = ("", "", "× ", "× ", "= ")
        rows = [[sign + cell for sign, cell in zip(signs, _cells(part, pen))] for part in _largest_parts(terms)]
        yield from aligned([[" " * len(sign) + name for sign, name in zip(signs, head)], *rows])
    yield f"\nThe gradient's entry is {exact.number(terms.value)}; the sum of all paths differs by {_rounding(terms)}."


def latex(terms: Terms) -> Iterator[str]:
    """Rows of an `aligned` block."""
    pen, exact = _pens("latex", terms)
    for path in terms.paths:
        start = "&+" if path is not terms.paths[0] else f"{terms.title.latex} &="
        yield f"{start} {pen.dot(*(factor.latex for factor in path.factors))}"
    left = terms.path_count - len(terms.paths)
    if left:
        yield rf"&+ \cdots \quad \text{{({left:,} more)}}"
    for place, path in enumerate(terms.paths):
        yield f"&{'+' if place else '='} {pen.product(_numbers(path, pen, first=not place))}"
    if left:
        yield f"&+ {pen.operand(terms.rest)}"
    yield f"&= {exact.number(terms.value)}"
    for step in terms.steps:
        yield f"{step.name.latex} &= {step.formula.latex} = {step.numbers.latex} = {pen.number(step.value)}"
        if step.note:
            yield rf"&\quad \text{{({step.note})}}"
    if not terms.steps:
        share, delta, came_in = (heading.latex for heading in terms.headings)
        yield rf"{terms.title.latex} &= \sum_i {share} \cdot {delta} \cdot {came_in}"
        for part in _largest_parts(terms):
            yield rf"&\quad i = {part.example + 1}: " + " = ".join(
                [pen.times(part.share, part.delta, part.input), pen.number(part.value)]
            )


def html(terms: Terms) -> Iterator[str]:
    """Pieces of a page."""
    pen, exact = _pens("html", terms)
    yield STYLE
    yield f"<p><b>{terms.title.html} = {exact.number(terms.value)}</b>{markup.escape(_of(terms))}</p>"
    yield f"<p>{terms.label.html} = {pen.number(terms.parameter)} is {markup.escape(terms.about)}</p>"
    yield f"<p>{_counted(terms)}:</p><table>"
    for path in terms.paths:
        names = "<td>·</td>".join(f"<td>{factor.html}</td>" for factor in path.factors)
        numbers = _numbers(path, pen)
        yield f"<tr>{names}<td></td><td></td></tr>"
        yield f'<tr class="numbers">{"<td>×</td>".join(f"<td>{cell}</td>" for cell in numbers)}'
        yield f"<td>=</td><td>{pen.number(path.product)}</td></tr>"
    yield "</table><table>"
    for name, value in _sums(terms):
        yield f'<tr><td class="name">{name}</td><td>=</td><td class="line">{exact.number(value)}</td></tr>'
    yield "</table>"
    if terms.steps:
        yield "<p>Regrouped, what the paths share computed once:</p><table>"
        for step in terms.steps:
            yield f'<tr><td class="name">{step.name.html}</td><td>=</td><td class="line">{step.formula.html}</td></tr>'
            note = f"<br>{step.note}" if step.note else ""
            yield f'<tr class="numbers"><td></td><td>=</td><td class="line">{step.numbers.html}'
            yield f" = {pen.number(step.value)}{note}</td></tr>"
    else:
        yield f"<p>{_parts_heading(terms)}:</p><table>"
        head = [f"<td>{heading.html}</td>" for heading in terms.headings]
        yield f"<tr><td>example</td>{'<td></td>'.join(head)}<td></td><td>part</td></tr>"
        for part in _largest_parts(terms):
            example, share, *rest, last = (f"<td>{cell}</td>" for cell in _cells(part, pen))
            yield f"<tr>{example}{'<td>×</td>'.join([share, *rest])}<td>=</td>{last}</tr>"
    yield f"</table><p>The gradient's entry is {exact.number(terms.value)}; "
    yield f"the sum of all paths differs by {_rounding(terms)}.</p>"


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


def _pens(form: Form, terms: Terms) -> tuple[Pen, Pen]:
    """One for the many numbers, one for those that are compared."""
    return Pen(form, "θ", (), terms.digits, terms.dtype), Pen(form, "θ", (), max(terms.digits, 12), terms.dtype)


def _rounding(terms: Terms) -> str:
    return Pen("text", "θ", (), 2).number(terms.difference)


def _of(terms: Terms) -> str:
    return f"   ({terms.of})" if terms.of else ""


def _counted(terms: Terms) -> str:
    paths = f"{terms.path_count:,} paths lead" if terms.path_count > 1 else "1 path leads"
    shown = f"; the largest {len(terms.paths)}" if terms.path_count > len(terms.paths) else ""
    return f"{paths} from the cost to it ({terms.factor_count:,} factors for one example){shown}"


def _parts_heading(terms: Terms) -> str:
    return "Regrouped, one product for each example (explain(..., example=0) writes out an example's error terms)"


def _sums(terms: Terms) -> list[tuple[str, float]]:
    shown, left = sum(path.product for path in terms.paths), terms.path_count - len(terms.paths)
    if not left:
        return [("sum", shown)]
    return [("sum of these", shown), (f"sum of the other {left:,}", terms.rest), ("sum", shown + terms.rest)]


def _largest_parts(terms: Terms) -> Sequence[Part]:
    """Every example's, or the largest, largest first."""
    if len(terms.parts) <= EXAMPLES:
        return terms.parts
    return sorted(terms.parts, key=lambda part: -abs(part.value))[:EXAMPLES]


def _cells(part: Part, pen: Pen) -> list[str]:
    return [
        f"{part.example} ({pen.cost(part.example)})",
        pen.number(part.share),
        *map(pen.operand, (part.delta, part.input)),
        pen.number(part.value),
    ]


def _numbers(path: Path, pen: Pen, first: bool = True) -> list[str]:
    """The factors' values; where nothing stands before them, a negative one first needs no brackets."""
    leading, *others = (factor.value for factor in path.factors)
    return [pen.number(leading) if first else pen.operand(leading), *map(pen.operand, others)]


def _text_chains(paths: Sequence[Path], pen: Pen) -> Iterator[str]:
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

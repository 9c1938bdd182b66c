"""A worksheet's forms: text, Markdown, LaTeX and HTML, solved or to be filled in, and files of them."""

import dataclasses
import html as markup
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

from funcnet._core.files import write_whole
from funcnet.derivations.calculation import Section
from funcnet.derivations.layouts import STYLE, wrapped
from funcnet.derivations.notation import Equation, Form, Pen, Written

TITLE = "One step of learning, by hand"
BLANK = Written("______", r"\underline{\hspace{2cm}}", '<span class="blank"></span>')
ROOM = 70  # characters of a line on paper

PREAMBLE = r"""\documentclass[a4paper]{article}
\usepackage[utf8]{inputenc}
\usepackage[margin=2cm]{geometry}
\usepackage{amsmath}
\allowdisplaybreaks
\setlength{\parindent}{0pt}
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ max-width: 60em; margin: 2em auto; padding: 0 1em; font: 15px/1.5 system-ui, sans-serif; }}
h2 {{ font-size: 1.1em; margin: 1.4em 0 .3em; break-after: avoid; }} tr {{ break-inside: avoid; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""

OWN_STYLE = """<style>
.funcnet-derivation td.line { white-space: normal; font-variant-numeric: tabular-nums; }
.funcnet-derivation .blank { display: inline-block; width: 7em; height: 1.2em; border-bottom: 1px solid; }
</style>"""


@dataclasses.dataclass(frozen=True, repr=False)
class Worksheet:
    """Every number of a step of learning in the order of a calculation by hand.

    Attributes:
        sections: what is given, forward propagation, the cost, then layer by layer from the last the
            error terms and the gradient, the update.
        digits: significant digits of the numbers as they are printed.
        dtype: their type, which may hold fewer.
        blank: whether a line stands in the place of what is to be computed. `sections` have the numbers all the same.
    """

    sections: tuple[Section, ...]
    digits: int
    dtype: str
    blank: bool = False

    @property
    def solution(self) -> "Worksheet":
        """The same worksheet with its numbers."""
        return dataclasses.replace(self, blank=False)

    def __str__(self) -> str:
        """Text for a terminal, about 100 columns wide."""
        lines: list[str] = []
        for heading, section in self._headed():
            lines += ["", heading, "─" * len(heading)]
            lines += [*textwrap.wrap(section.note.text, 95), ""] if section.note.text else []
            width = max(len(line.name.text) for line in section.equations)
            for line in section.equations:
                name, *rows = self._lines(line, "text", width)
                for start, row in zip((f"{name:{width}} = ", f"{'':{width}} = "), rows):
                    lines += wrapped(start, row)
        return "\n".join(lines[1:])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """Headings, and the mathematics as LaTeX between double dollars, as GitHub and Jupyter show it."""
        pieces = []
        for heading, section in self._headed():
            pieces += [f"### {heading}", *([section.note.latex] if section.note.latex else [])]
            pieces += ["$$\n\\begin{aligned}\n" + self._rows(section) + "\n\\end{aligned}\n$$"]
        return "\n\n".join(pieces) + "\n"

    def to_latex(self) -> str:
        """The body of a document that loads amsmath; `\\allowdisplaybreaks` lets long steps run over pages."""
        pieces = []
        for heading, section in self._headed():
            note = f"{section.note.latex}\n" if section.note.latex else ""
            pieces += [f"\\subsection*{{{heading}}}\n{note}\\begin{{align*}}\n{self._rows(section)}\n\\end{{align*}}"]
        return "\n\n".join(pieces) + "\n"

    def to_html(self) -> str:
        """A `<div>` that brings its own style. Units' names are text in it, whatever they hold."""
        pieces = ['<div class="funcnet-derivation">', STYLE, OWN_STYLE]
        for heading, section in self._headed():
            pieces += [f"<h2>{markup.escape(heading)}</h2>"]
            pieces += [f"<p>{section.note.html}</p>"] if section.note.html else []
            pieces += ["<table>"]
            for line in section.equations:
                name, *rows = self._lines(line, "html", len(line.name.text))
                for label, row in zip((name, ""), rows):
                    cells = f'<td class="name">{label}</td><td>=</td><td class="line">{row}</td>'
                    pieces += [f"<tr>{cells}</tr>"]
            pieces += ["</table>"]
        return "\n".join([*pieces, "</div>"])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file; what is there is replaced, at once, when the new one is complete.

        Args:
            path: it ends in .md for Markdown, .tex for a LaTeX document that compiles as it is, .html for a page that
                needs nothing but a browser, or .txt for text.

        Raises:
            ValueError: another ending.
            OSError: the file cannot be written; what was there stays.
        """
        match Path(path).suffix.lower():
            case ".md":
                content = self.to_markdown()
            case ".tex":
                content = f"{PREAMBLE}\\begin{{document}}\n\\section*{{{TITLE}}}\n{self.to_latex()}\\end{{document}}\n"
            case ".html":
                content = PAGE.format(title=TITLE, body=self.to_html())
            case ".txt":
                content = f"{self}\n"
            case _:
                raise ValueError(f"save: expected a path that ends in .md, .tex, .html or .txt, got {str(path)!r}.")
        write_whole(path, content.encode(), mode=0o644)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _headed(self) -> Iterator[tuple[str, Section]]:
        return ((f"{number}. {section.title}", section) for number, section in enumerate(self.sections, 1))

    def _parts(self, line: Equation, form: Form) -> list[str]:
        """What stands between the equals signs, without what there is none of, and nothing twice in a row."""
        if self.blank and not line.given:
            written = [line.name, line.formula, BLANK]
            return [part for piece in written if (part := getattr(piece, form))]
        written = [line.name, line.formula, line.numbers]
        number = Pen(form, "θ", (), self.digits, self.dtype).number(line.value)
        parts = [*(part for piece in written if (part := getattr(piece, form))), number]
        return [part for place, part in enumerate(parts) if place == 0 or part != parts[place - 1]]

    def _lines(self, line: Equation, form: Form, width: int) -> list[str]:
        """The name, and what it is equal to in one line or, if that gets long, in two."""
        name, *parts = self._parts(line, form)
        if width + len(" = ".join(self._parts(line, "text")[1:])) <= 95 or len(parts) < 3:
            return [name, " = ".join(parts)]
        return [name, parts[0], " = ".join(parts[1:])]

    def _rows(self, section: Section) -> str:
        """Rows of LaTeX, broken before a plus where they get too long for paper."""
        rows = []
        for line in section.equations:
            name, *parts = self._parts(line, "latex")
            texts = self._parts(line, "text")[1:]
            long = len(parts) > 1 and len(" = ".join(texts)) > ROOM
            groups = [(texts[:1], parts[:1]), (texts[1:], parts[1:])] if long else [(texts, parts)]
            broken = [_broken(*map(" = ".join, group)) for group in groups]
            rows.append(f"{name} &= " + " \\\\\n&= ".join(broken))
        return " \\\\\n".join(rows)


def _broken(text: str, latex: str) -> str:
    """LaTeX in rows as long as its text allows."""
    lengths, pieces = [len(piece) + 3 for piece in text.split(" + ")], latex.split(" + ")
    if len(lengths) != len(pieces) or any(piece.count("{") != piece.count("}") for piece in pieces):
        return latex
    written, used = pieces[0], lengths[0]
    for length, piece in zip(lengths[1:], pieces[1:]):
        starts = used + length > ROOM + 20
        written += (" \\\\\n&\\quad + " if starts else " + ") + piece
        used = length if starts else used + length
    return written

"""The derivative by one weight as the texts write it, for a terminal, in LaTeX and in HTML."""

import dataclasses

from funcnet.derivations import layouts
from funcnet.derivations.terms import Terms


@dataclasses.dataclass(frozen=True, repr=False)
class Derivation(Terms):
    """What `explain` gives: plain data (`Terms` lists the attributes) that prints itself."""

    def __str__(self) -> str:
        """Text for a terminal, about 100 columns wide."""
        return "\n".join(layouts.text(self))

    __repr__ = __str__

    def to_latex(self) -> str:
        """An `aligned` block without dollar signs, for any display of mathematics (amsmath, MathJax, KaTeX)."""
        return "\n".join(["\\begin{aligned}", " \\\\\n".join(layouts.latex(self)), "\\end{aligned}"])

    def to_html(self) -> str:
        """A `<div>` that brings its own style. Units' names are text in it, whatever they hold."""
        return "\n".join(['<div class="funcnet-derivation">', *layouts.html(self), "</div>"])

    def _repr_latex_(self) -> str:
        return f"$$\n{self.to_latex()}\n$$"

    def _repr_html_(self) -> str:
        return self.to_html()

"""What `diagnose` gives back: verdicts, and everything that was looked at."""

import dataclasses
import textwrap
from collections.abc import Iterator

from funcnet._core.tables import html_list, html_text


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Something that is wrong.

    Attributes:
        name: such as "dead units".
        where: such as "layer 2", "x" or "optimizer".
        evidence: the numbers that show it, and the limit.
        remedy: what to change.
    """

    name: str
    where: str
    evidence: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Look:
    """One thing that was looked at, or was not.

    Attributes:
        seen: what was seen, or why it was not looked at.
        verdicts: what is wrong there, if anything.
        done: whether it was looked at.
        what: such as "cost against chance".
    """

    seen: str
    verdicts: tuple[Verdict, ...] = ()
    done: bool = True
    what: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Diagnosis:
    """Verdicts in plain words. It prints as a page to read.

    Attributes:
        looks: everything that was looked at, and what was not and why, in order.
    """

    looks: tuple[Look, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        return tuple(verdict for look in self.looks for verdict in look.verdicts)

    @property
    def names(self) -> tuple[str, ...]:
        """The verdicts' names, each once."""
        return tuple(dict.fromkeys(verdict.name for verdict in self.verdicts))

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong as far as was looked."""
        return not self.verdicts

    def __str__(self) -> str:
        lines = [self._headline()]
        for title, items in self._parts():
            lines += ["", title, *(line for item in items for line in _wrapped(item))]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        parts = (html_text(title, "p") + html_list(items) for title, items in self._parts())
        return html_text(self._headline(), "p", "b") + "".join(parts)

    def _headline(self) -> str:
        count = len(self.verdicts)
        return f"{count} verdict{'s' * (count > 1)}" if count else "healthy, as far as was looked"

    def _parts(self) -> Iterator[tuple[str, list[str]]]:
        """A title and its items: of every verdict, of what was looked at, and of what was not."""
        for verdict in self.verdicts:
            yield f"{verdict.name} ({verdict.where})", [f"seen: {verdict.evidence}", f"try:  {verdict.remedy}"]
        for title, done in (("looked at", True), ("not looked at", False)):
            items = [f"{look.what}: {look.seen}" for look in self.looks if look.done is done]
            if items:
                yield title, items


def _wrapped(item: str) -> list[str]:
    return textwrap.wrap(item, 100, initial_indent="  ", subsequent_indent="        ")

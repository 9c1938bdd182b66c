"""What `diagnose` gives back: verdicts, and everything that was looked at."""

import dataclasses
import textwrap


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
        found = self.verdicts
        lines = ["healthy, as far as was looked" if not found else f"{len(found)} verdict{'s' * (len(found) > 1)}"]
        for verdict in found:
            lines += ["", f"{verdict.name} ({verdict.where})"]
            lines += _wrapped("seen: ", verdict.evidence) + _wrapped("try:  ", verdict.remedy)
        for title, done in (("looked at", True), ("not looked at", False)):
            looks = [look for look in self.looks if look.done is done]
            lines += ["", title] * bool(looks)
            lines += [line for look in looks for line in _wrapped(f"{look.what}: ", look.seen)]
        return "\n".join(lines)

    __repr__ = __str__


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(label + text, 100, initial_indent="  ", subsequent_indent="        ")

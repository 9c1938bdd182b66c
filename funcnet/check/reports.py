"""The outcome of a check, as a value that prints itself as a table."""

import dataclasses

from funcnet._core.tables import aligned, html_list, html_table, html_text

RIGHT = 1e-7
"""Below this a relative error against central differences in float64 is none."""

NUMBERS = (1, 2, 3, 4, 5)  # columns of the table


@dataclasses.dataclass(frozen=True)
class Row:
    """One parameter (or the input) under check, at the entry where it agrees worst.

    Attributes:
        name: "layer 2, w", or "input".
        index: the entry.
        error: its relative error |g - n| / max(|g|, |n|, 10⁻² · the largest entry of the leaf),
            the worse of hand-written against automatic and, beyond what the rounding of the cost
            explains, against finite differences. Of an answer: |g - n| / max(|g|, |n|) beyond what the
            rounding of its type explains.
        hand: the hand-written derivative there, or the answer's.
        automatic: JAX's, or None where there is none to compare with.
        numeric: central differences.
        checked: how many entries were compared with finite differences.
        size: how many there are; every one is compared with the automatic derivative.
        kinks: how many entries lie at a kink, where any slope between the one-sided ones is right.
        unresolved: how many entries differences cannot judge: they are too small beside the cost, or
            move with the step by as much as they miss.
        verdict: "right", "acceptable", "suspicious", "wrong", or "unresolved" where there is no
            automatic derivative to judge by instead.
        skipped: how many entries where the hand-written and the automatic derivative disagree were not
            compared with finite differences, being too many; they count as errors.
    """

    name: str
    index: tuple[int, ...]
    error: float
    hand: float
    automatic: float | None
    numeric: float
    checked: int
    size: int
    kinks: int
    unresolved: int
    verdict: str
    skipped: int = 0

    @property
    def where(self) -> str:
        """The entry in words: "layer 2, w[3, 1]"."""
        return f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name


@dataclasses.dataclass(frozen=True)
class Law:
    """One law of a layer, whether it held, and the evidence."""

    name: str
    held: bool
    evidence: str


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """The outcome of a check. It prints as a table.

    Attributes:
        title: what was checked.
        rows: one for every parameter and, but for an answer, one for the input.
        laws: the laws of a layer, from `check_layer`.
        judged: what is judged, the heading of its column.
        remarks: sentences on an answer that a single mistake explains.
    """

    title: str
    rows: tuple[Row, ...]
    laws: tuple[Law, ...] = ()
    judged: str = "hand-written"
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every row is right and every law held."""
        return all(row.verdict == "right" for row in self.rows) and all(law.held for law in self.laws)

    def raise_if_wrong(self) -> None:
        """Raise an AssertionError that holds the table, unless all is right."""
        if not self.ok:
            raise AssertionError(str(self))

    def __str__(self) -> str:
        table = aligned(self._table(), NUMBERS, gap="  ", indent="")
        return "\n".join([self.title, *table, *self._sentences(), self._verdict()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        verdict = html_text(self._verdict(), "p", "b")
        return html_text(self.title, "p") + html_table(self._table(), NUMBERS) + html_list(self._sentences()) + verdict

    def _table(self) -> list[tuple[str, ...]]:
        head = ("worst entry", "error", self.judged, "automatic", "differences", "checked", "verdict")
        return [head, *(_cells(row) for row in self.rows)]

    def _sentences(self) -> list[str]:
        laws = (f"{'held' if law.held else 'BROKEN'}: {law.name} ({law.evidence})" for law in self.laws)
        return [*laws, *self.remarks]

    def _verdict(self) -> str:
        wrong = [row.where for row in self.rows if row.verdict != "right"]
        broken = [law.name for law in self.laws if not law.held]
        return "all right" if self.ok else f"NOT right: {'; '.join(wrong + broken)}"


def _cells(row: Row) -> tuple[str, ...]:
    automatic = "-" if row.automatic is None else f"{row.automatic:.9g}"
    kinks = f", {row.kinks} at a kink" if row.kinks else ""
    unresolved = f", {row.unresolved} beyond differences" if row.unresolved else ""
    skipped = f", {row.skipped} in doubt not differenced" if row.skipped else ""
    return (
        row.where,
        f"{row.error:.1e}",
        f"{row.hand:.9g}",
        automatic,
        f"{row.numeric:.6g}",
        f"{row.checked} of {row.size}",
        row.verdict + kinks + unresolved + skipped,
    )


def verdict(error: float) -> str:
    """The field's bands for a relative error against central differences in float64."""
    if error < RIGHT:
        return "right"
    if error < 1e-4:
        return "acceptable"
    return "suspicious" if error < 1e-2 else "wrong"

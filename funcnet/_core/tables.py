"""Tables as lines of text."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), gap: str = " ", indent: str = "  ") -> list[str]:
    """Rows as lines of text with their columns under each other; those numbered in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows)]

    def padded(row: Sequence[str]) -> list[str]:
        return [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]

    return [(indent + gap.join(padded(row))).rstrip() for row in rows]

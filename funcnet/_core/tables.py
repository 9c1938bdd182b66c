"""Tables as lines of text, and the same rows as HTML, which notebooks show."""

import html
from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int] = (), gap: str = " ", indent: str = "  ") -> list[str]:
    """Rows as lines of text with their columns under each other; those numbered in `right` end together."""
    widths = [max(map(len, column)) for column in zip(*rows)]

    def padded(row: Sequence[str]) -> list[str]:
        return [cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]

    return [(indent + gap.join(padded(row))).rstrip() for row in rows]


def html_table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows as a table of HTML, the first as its head. It has no colours of its own, so it fits light and dark pages."""

    def written(row: Sequence[str], tag: str) -> str:
        sides = ("right" if i in right else "left" for i in range(len(row)))
        cells = (f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>' for cell, side in zip(row, sides))
        return f"<tr>{''.join(cells)}</tr>"

    head, *others = rows
    body = "".join(written(row, "td") for row in others)
    numbers = "font-variant-numeric: tabular-nums"
    return f'<table style="{numbers}"><thead>{written(head, "th")}</thead><tbody>{body}</tbody></table>'


def html_text(text: str, *tags: str) -> str:
    """Text between tags: "<p><b>text</b></p>" of "p" and "b"."""
    opened, closed = "".join(f"<{tag}>" for tag in tags), "".join(f"</{tag}>" for tag in reversed(tags))
    return f"{opened}{html.escape(text)}{closed}"


def html_list(items: Sequence[str]) -> str:
    """Lines of text as a list, nothing of none."""
    return f"<ul>{''.join(html_text(item, 'li') for item in items)}</ul>" if items else ""

"""The guides, and the README: their blocks run in order, and print what stands below them."""

import pathlib
import re

import pytest
from scripts import ROOT, run

PAGES = [*sorted((ROOT / "examples" / "guides").glob("*.md")), ROOT / "README.md"]
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```\n(.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"[+-]?(?:\d[\d,]*)(?:\.\d+)?(?:e[+-]?\d+)?")
MARK = "end of a block"


def agree(printed, shown):
    """The same text, where each number with a point may differ by 5 %, or by 1 in its last digit."""
    words, numbers = NUMBER.split(printed), NUMBER.findall(printed)
    expected_words, expected = NUMBER.split(shown), NUMBER.findall(shown)
    return [word.split() for word in words] == [word.split() for word in expected_words] and all(
        near(number, other) for number, other in zip(numbers, expected, strict=True)
    )


def near(number, other):
    if "." not in other:
        return number == other
    value, wanted = (float(text.replace(",", "")) for text in (number, other))
    last = 10.0 ** -len(re.search(r"\.(\d+)", other)[1])
    return abs(value - wanted) <= max(0.05 * abs(wanted), 1.01 * last)


@pytest.mark.thorough
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_it_shows(page, tmp_path):
    blocks = BLOCK.findall(page.read_text())
    script = tmp_path / "page.py"
    script.write_text("".join(f"{code}\nprint({MARK!r})\n" for code, _ in blocks))
    printed = run(script, cwd=tmp_path).split(MARK + "\n")
    for (_, shown), lines in zip(blocks, printed, strict=False):
        beginning, cut, _ = shown.partition("\n…")  # what is long is shown in part
        if cut:
            lines = "\n".join(lines.splitlines()[: len(beginning.splitlines())])
        assert agree(lines, beginning if cut else shown), f"{page.name} shows\n{shown}\nand prints\n{lines}"


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("cost 0.512 of 3", "cost 0.511 of 3", True),
        ("cost 0.612 of 3", "cost 0.511 of 3", False),
        ("cost 0.511 of 4", "cost 0.511 of 3", False),
        ("price 0.511 of 3", "cost 0.511 of 3", False),
        ("a  b", "a b", True),
    ],
)
def test_what_counts_as_the_same(printed, shown, same):
    assert agree(printed, shown) == same


LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)\)")
DOCUMENTS = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")),
    *(ROOT / "examples").rglob("README.md"),
]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(pathlib.Path(page).relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


def test_every_guide_and_story_is_listed():
    contents = (ROOT / "examples" / "README.md").read_text()
    scripts = [*(ROOT / "examples").glob("[0-9]*.py"), *(ROOT / "examples" / "guides").glob("*.md")]
    assert [path.name for path in scripts if f"{path.name})" not in contents] == []

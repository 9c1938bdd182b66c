"""The rows of `planted_errors.py` match the source, so that each of them can be planted."""

import collections
import pathlib

import planted_errors

import funcnet as fn

PACKAGE, TESTS = pathlib.Path(fn.__file__).parent, pathlib.Path(planted_errors.__file__).parent


def test_every_row_replaces_a_piece_of_its_file():
    for what, file, old, new in planted_errors.ERRORS:
        assert old in (PACKAGE / file).read_text(), f"{what}: {file} no longer holds {old!r}. Bring the row up to date."
        assert old != new, what


def test_every_row_has_a_description_of_its_own():
    assert collections.Counter(row[0] for row in planted_errors.ERRORS).most_common(1)[0][1] == 1


def test_the_tests_that_are_to_catch_them_are_there():
    for row in planted_errors.ERRORS:
        first, others = planted_errors.rooms_of(row[1])
        assert first, row
        assert all((TESTS / f"{room}.py").exists() for room in first + others)

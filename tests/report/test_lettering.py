"""Captions: they fit, they lose nothing that there is room for, and have glyphs for all that they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcis_cli.report.lettering import ELLIPSIS, font, line_height, spell, wrap


@given(st.text(max_size=200), st.integers(60, 300), st.integers(1, 4))
def test_lines_fit_the_width_and_their_number(text, width, max_lines):
    lines = wrap(text, size=16, width=width, max_lines=max_lines)
    assert len(lines) <= max_lines
    assert all(line and font(16).getlength(line) <= width for line in lines)


@given(st.text("abc def\n", max_size=60))
def test_nothing_is_lost_where_there_is_room(text):
    lines = wrap(text, size=16, width=80, max_lines=1000)
    assert "".join(lines).replace(" ", "") == "".join(text.split())


def test_lines_break_at_spaces():
    assert wrap("pseudo mask of\nthe image", size=16, width=100, max_lines=3) == ["pseudo mask", "of the image"]


def test_a_word_longer_than_a_line_is_broken():
    lines = wrap("x" * 40, size=16, width=100, max_lines=9)
    assert len(lines) > 1
    assert "".join(lines) == "x" * 40


def test_what_does_not_fit_ends_in_an_ellipsis():
    (line,) = wrap("a caption that has no room", size=16, width=100, max_lines=1)
    assert line.endswith(ELLIPSIS)
    assert line.startswith("a caption")


def test_no_text_has_no_lines():
    assert wrap(" \n ", size=16, width=100, max_lines=2) == []


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("41.3 % × 2 − 1", "41.3 % x 2 - 1"), ("Straße à Liège", "Strasse a Liege"), ("犬 a\tb\x00", "? a b?")],
)
def test_what_the_font_lacks_is_spelled_otherwise(text, spelled):
    assert spell(text) == spelled


def test_lines_are_apart_by_more_than_the_font():
    assert line_height(16) == 22

"""Pages in plain words: those that were rewritten have none of the words that the project replaced."""

from pathlib import Path

import pytest
import words


@pytest.mark.parametrize("name", words.CLEAN)
def test_a_page_has_no_word_that_was_replaced(name: str):
    assert not list(words.found_in(words.ROOT / name))


def test_words_are_found_with_what_to_write_instead(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("At least two.\nWhat was made is found done.\n")
    assert list(words.found_in(page)) == [(2, "found done", "cached")]
    assert words.main([page]) == 1

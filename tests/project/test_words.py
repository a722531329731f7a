"""Texts in plain words: none has a word that the project replaced."""

from pathlib import Path

import words


def test_no_text_has_a_word_that_was_replaced():
    texts = list(words.texts())
    assert len(texts) > 300
    assert not [(path, *fault) for path in texts for fault in words.found_in(path)]


def test_words_are_found_with_what_to_write_instead(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("At least two.\nWhat was made is found\ndone.\n")
    assert list(words.found_in(page)) == [(2, "found done", "cached")]
    assert words.main([page]) == 1


def test_only_comments_and_docstrings_of_tests_count(tmp_path: Path):
    test = tmp_path / "test_page.py"
    test.write_text('"""What a\npage tells."""\n\ntold = "it tells"  # the least\n')
    assert [(line, word) for line, word, _ in words.found_in(test)] == [(2, "tells"), (4, "least")]

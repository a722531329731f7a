"""Parse a cell of tags: tags with separators, or a list as Python, JSON or NumPy write it."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise

_LIST = re.compile(r"""[\[({]\s*(?:(?:'[^']*'|"[^"]*")[\s,;]*)*[\])}]""")
SEPARATORS = ";,|\n，；、｜"  # the last four are those of Chinese and Japanese keyboards
_JOINTS = re.compile(r"\s+(?:and\s+)?|\s*[/+&|:，；、]\s*")
_IN_BRACKETS = re.compile(r"\[[^\[\]]*\]|\{[^{}]*\}")
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def is_list(text: str) -> bool:
    """Whether a text is a list of quoted names."""
    return _LIST.fullmatch(text.strip()) is not None


def split_cell(cell: str, separators: str = SEPARATORS) -> list[str]:
    """The tags of a cell: separated by signs, or a list of quoted names such as `['cat', 'dog']`."""
    text = cell.strip()
    if is_list(text):
        return [name for one, other in _QUOTED.findall(text) if (name := (one or other).strip())]
    return [name for part in re.split(f"[{separators}]", text) if (name := _unquoted(part.strip()))]


def parted_by_commas(texts: Sequence[str], classes: Collection[str] = ()) -> bool:
    """Whether the tags of lines `ID tag tag …` are separated by commas and semicolons, or are lists, and not by blanks.

    They are if one line has such a sign, unless all parts between blanks are listed `classes`, whose names may contain
    it.
    """
    if any(map(is_list, texts)):
        return True
    by_blanks = bool(classes) and all(name in classes for text in texts for name in text.split())
    return not by_blanks and any("," in text or ";" in text for text in texts)


def _unquoted(text: str) -> str:
    """A name without surrounding quotes."""
    is_quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].strip() if is_quoted else text


def broken_list(tag: str) -> bool:
    """Whether a tag looks like a list or a part of one: in brackets, with an unmatched bracket, or with a quote."""
    return (
        _IN_BRACKETS.fullmatch(tag) is not None
        or tag.startswith(("[[", "['", '["', "{'", '{"'))
        or any(
            (tag.startswith(opening) and closing not in tag) or (tag.endswith(closing) and opening not in tag)
            for opening, closing in ("[]", "{}")
        )
    )


def joined_tags(tags: Iterable[str]) -> list[str]:
    """The tags that are others joined by blanks or signs, as `cat dog` or `cat / dog` beside `cat`, `dog`; sorted."""
    whole = set(tags)
    words = {tag: parts for tag in whole if len(parts := [part for part in _JOINTS.split(tag) if part]) > 1}
    joined = [tag for tag, parts in words.items() if all(part in whole for part in parts)]
    if not joined and len(words) >= 3 and 2 * len(words) > len(whole):
        # If no tag occurs alone: words that each occur in several tags, as in "agriculture clear water".
        uses: dict[str, int] = {}
        for parts in words.values():
            for part in set(parts):
                uses[part] = uses.get(part, 0) + 1
        joined = [tag for tag, parts in words.items() if all(uses[part] > 1 for part in parts)]
    return sorted(joined)


def always_together(lines: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """Words that always follow each other, in two or more lines: perhaps one name of two words."""
    counts: dict[str, int] = {}
    follows: dict[tuple[str, str], int] = {}
    for words in lines:
        for word in words:
            counts[word] = counts.get(word, 0) + 1
        for pair in pairwise(words):
            follows[pair] = follows.get(pair, 0) + 1
    return sorted(pair for pair, count in follows.items() if count > 1 and counts[pair[0]] == counts[pair[1]] == count)

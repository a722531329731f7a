"""Text in pictures: lines that fit a width, in the font that comes inside Pillow.

That font makes a picture the same on every machine, and has little beyond ASCII: other letters are spelled with what
it has, and "?" stands for those that cannot be.
"""

import unicodedata
from functools import cache

from PIL import ImageFont

SPELLING = str.maketrans({"−": "-", "–": "-", "—": "-", "×": "x", "“": '"', "”": '"', "’": "'", "‘": "'", "ß": "ss"})
ELLIPSIS = "…"


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The embedded font at a size in pixels."""
    loaded = ImageFont.load_default(size)
    assert isinstance(loaded, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return loaded


def line_height(size: int) -> int:
    """Pixels from one line of text to the next."""
    return round(1.4 * size)


def wrap(text: str, *, size: int, width: int, max_lines: int) -> list[str]:
    """Text in lines that fit a width; a word longer than a line is broken, and the last line may end in an ellipsis.

    Args:
        text: any text; line breaks count as spaces.
        size: of the font, in pixels.
        width: of a line, in pixels.
        max_lines: lines to use at most, from 1.

    Returns:
        The lines, none empty.
    """
    assert max_lines >= 1, max_lines
    rest, lines = " ".join(spell(text).split()), list[str]()
    while rest and len(lines) < max_lines:
        line = _head(rest, size, width)
        rest = rest[len(line) :].lstrip()
        lines.append(line.rstrip())
    if rest:
        lines[-1] = _shortened(lines[-1], size, width)
    return lines


def spell(text: str) -> str:
    """Text in characters that the font has a glyph for; accents are dropped, and what cannot be spelled is "?"."""
    spelled = []
    for character in text.translate(SPELLING):
        plain = character if _has_glyph(character) else unicodedata.normalize("NFKD", character)[:1]
        spelled.append(" " if character.isspace() else plain if _has_glyph(plain) else "?")
    return "".join(spelled)


def _head(text: str, size: int, width: int) -> str:
    """The longest beginning of a text that fits, up to a space where there is one; at least one character."""
    end = 1
    while end < len(text) and font(size).getlength(text[: end + 1]) <= width:
        end += 1
    if end == len(text) or text[end] == " ":
        return text[:end]
    space = text.rfind(" ", 0, end)
    return text[:space] if space > 0 else text[:end]


def _shortened(line: str, size: int, width: int) -> str:
    while line and font(size).getlength(line + ELLIPSIS) > width:
        line = line[:-1].rstrip()
    return line + ELLIPSIS


@cache
def _has_glyph(character: str) -> bool:
    if not character.isprintable() or not character:
        return False
    return character == " " or _shape(character) != _shape("\uffff")


def _shape(character: str) -> tuple[tuple[int, int], bytes]:
    mask = font(16).getmask(character)
    return mask.size, bytes(mask)

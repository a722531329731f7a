"""Random names of images, tags and folders with markup, terminal escapes and HTML in them."""

import random
import unicodedata

PIECES = (
    *(
        "[red]",
        "[/]",
        "[bold]",
        "[/red]",
        "[link=https://a.example]x[/link]",
        "[@click=app.quit]",
        "\\[",
        "[[",
        "[#ff0000]",
    ),
    *("\x1b[31m", "\x1b[2J", "\x1b]8;;https://a.example\x1b\\x\x1b]8;;\x1b\\", "\x1b]0;title\x07", "\x9b31m", "\x1bc"),
    *("\u202e", "\u2066", "\u200f", "\u2028", "\u2029", "\x85", "\n", "\r", "\t", "\b", "\x7f", "\r\nmcis: error: no"),
    *("<script>alert(1)</script>", "<img src=x onerror=y>", "&lt;", '"><b>', "{}", "%s", "%(a)s", "${x}", "`x`"),
    *(":smile:", ":warning:", "\U0001f600", "été", "猫", "a", "B", " ", ".", "-"),
)
BIDI = {"\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2066", "\u2067", "\u2068", "\u2069", "\u200e", "\u200f"}


def some_name(rng: random.Random, *, in_file: bool = False, text_only: bool = False) -> str:
    """A name; one that a file can have, or one without control characters."""
    while True:
        name = "".join(rng.choices(PIECES, k=rng.randint(1, 4)))
        name = name.replace("/", "_") if in_file else name
        if text_only and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
            continue
        if name.strip(" .") and len(name.encode()) < 100:
            return name

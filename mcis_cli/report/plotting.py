"""What figures made with matplotlib share. It is imported when one is drawn, and draws the same on every machine."""

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SOFT, LINE = "#1c1926", "#625d70", "#e5e1da"  # as the page has them
_FONT = "DejaVu Sans"  # which comes with matplotlib, and so measures text alike everywhere
_WEB_FONTS = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif"
_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.unicode_minus": False,
    "font.family": _FONT,
    "font.size": 9,
    "grid.color": LINE,
    "svg.fonttype": "none",  # text stays text
    "text.color": INK,
    "text.parse_math": False,  # a class may have a dollar sign in its name
    "xtick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in here: with our settings alone, whatever `matplotlibrc` says, and without a word on stderr."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells where it keeps its list of fonts
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks, which are drawn as boxes
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def visible(text: str) -> str:
    """Text with a space for each character that has no glyph, which XML may not hold either."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def png_of(figure: "Figure", *, dpi: int) -> bytes:
    """The figure as PNG, RGB without transparency and without a date."""
    drawn, stream = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi, facecolor="white")
    Image.open(drawn).convert("RGB").save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def svg_of(figure: "Figure", title: str) -> str:
    """The figure as an SVG element without a date, its text as text.

    Args:
        figure: What is drawn.
        title: What it shows, for those who cannot see it.
    """
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": title}):  # ids differ where titles do
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' id="[a-zA-Z0-9.]+_[0-9]+"', "", text)  # nothing refers to these
    text = text.replace(f"'{_FONT}'", _WEB_FONTS)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(visible(title), quote=True)}" ', 1)


def inline(svg: str, colours: Mapping[str, str]) -> str:
    """An SVG element for a page of HTML: as wide as its place, in the page's colours, light or dark.

    Args:
        svg: From `svg_of`.
        colours: Colours of the figure (`#rrggbb`) to colours of CSS.
    """
    head, rest = svg.split(">", 1)
    svg = re.sub(r' (?:xmlns[:a-z]*|width|height|version)="[^"]*"', "", head) + ">" + rest
    for drawn, shown in colours.items():
        svg = svg.replace(drawn, shown)
    return svg.replace("xlink:href", "href")

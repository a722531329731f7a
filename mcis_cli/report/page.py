"""The page: one HTML file that loads nothing from elsewhere, made from the templates beside this module.

Names of classes, images and files are plain text: Jinja escapes them all, invisible characters become blanks, and the
page forbids all scripts except its own.
"""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mcis_cli import __version__
from mcis_cli.data.palette import voc_palette
from mcis_cli.errors import percent, plain
from mcis_cli.report.comparison import Comparison
from mcis_cli.report.content import Report
from mcis_cli.report.review import ReviewPage
from mcis_cli.report.scores import points
from mcis_cli.stages.stage import SCORED

VIEWS = ("map", "walked map", "pseudo mask", "prediction", "ground truth")


def render(report: Report) -> str:
    """The page of one run."""
    return _rendered(
        "report.html.j2",
        report=report,
        pictures=report.photos.pictures if report.photos else (),
        subjects=[subject for subject in SCORED if subject in report.scores],
        rows=_score_rows(report),
        splits=sorted({card.split for card in report.cards}),
        views=[title for title in VIEWS if any(title in card.tiles for card in report.cards)],
    )


def render_comparison(of: Comparison) -> str:
    """The page of two runs."""
    return _rendered(
        "comparison.html.j2",
        of=of,
        pictures=of.photos.pictures if of.photos else (),
        splits=sorted({card.split for changed in of.changed for card in changed.cards}),
    )


def render_review(page: ReviewPage) -> str:
    """The page of a review."""
    return _rendered(
        "review.html.j2",
        page=page,
        pictures=page.photos.pictures,
        splits=sorted({card.split for card in page.cards}),
        views=[title for title in VIEWS if any(title in card.tiles for card in page.cards)],
    )


def _rendered(template: str, *, pictures: Sequence[str], **values: Any) -> str:
    script = _asset("page.js")
    written: set[int] = set()

    def once(number: int) -> str:
        """The photograph where it comes first; empty elsewhere, where the script takes it from there."""
        if number in written:
            return ""
        written.add(number)
        return pictures[number]

    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(_asset("page.css")),
            script=Markup(script),
            script_digest=digest,
            version=__version__,
            once=once,
            **values,
        )
    )


def _score_rows(report: Report) -> Sequence[tuple[int, str, list[float | None]]]:
    """Mask value, name, and the IoU of each subject."""
    return [
        (
            value,
            name,
            [report.scores[subject].metrics["iou"].get(name) for subject in SCORED if subject in report.scores],
        )
        for value, name in enumerate(report.class_names)
    ]


@cache
def _asset(name: str) -> str:
    """A file of the package that goes into the page unchanged."""
    return (files("mcis_cli.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mcis_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    environment.filters |= {"percent": percent, "points": points, "colour": _colour}
    return environment


def _seen(value: Any) -> Any:
    """Text with a blank for each invisible character, including marks of direction."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _colour(value: int) -> str:
    """The CSS colour of a mask value; background, which is transparent in masks, is grey and not black."""
    if value == 0:
        return "var(--soft)"
    red, green, blue = voc_palette()[value].tolist()
    return f"rgb({red} {green} {blue})"

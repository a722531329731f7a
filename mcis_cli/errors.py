"""Errors that users see, and the exit code of each.

A message has three parts: what is wrong and where; what was found and what was expected; the command or flag that
fixes it. Faults of our own are assertions, not one of these.
"""

from collections.abc import Iterable
from itertools import islice

NUM_NAMED = 5


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: 1 image, 2 images."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def first_few(names: Iterable[str], most: int = NUM_NAMED) -> str:
    """The first few of some names, and whether there are more: a, b, …"""
    first = list(islice(names, most + 1))
    return ", ".join(first[:most]) + (", …" if len(first) > most else "")


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction in percent, or a dash."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f}"


def share_in_percent(fraction: float) -> str:
    """A fraction in percent with its sign: 38 %, 0.4 %."""
    return f"{100 * fraction:.{0 if fraction >= 0.1 else 1}f} %"


def plain(text: str) -> str:
    """Text with a blank for each unprintable character, so that it is one line without control sequences.

    Python's unprintable characters include line breaks, escapes and marks of direction.
    """
    return "".join(letter if letter.isprintable() else " " for letter in text)


class McisError(Exception):
    """Any error that a user can fix; `exit_code` is what the command line returns."""

    exit_code = 2


class UsageError(McisError):
    """A flag, a configuration file or a combination of them that makes no sense."""


class DataError(McisError):
    """An image set, an image, a mask, a saliency map or a tag that cannot be used."""


class WeightsError(McisError):
    """Initial weights that cannot be found, downloaded, or fitted to the network."""


class MissingError(McisError):
    """An artifact that is needed is not in the store."""

    exit_code = 3


class DamagedError(McisError):
    """An artifact whose bytes or structure are not what was sealed."""

    exit_code = 4


class UnfinishedError(McisError):
    """No failure: a shard has done its part, and others have theirs still to do."""

    exit_code = 0


class BusyError(McisError):
    """Another process works on the same thing and was not waited for."""

    exit_code = 5


class StorageError(McisError):
    """No space, no permission, read-only, or another failure of the file system."""

    exit_code = 6


class CheckError(McisError):
    """A requested check failed."""

    exit_code = 7

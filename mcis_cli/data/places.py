"""Where data may be: a path of this machine, or a URL such as `s3://bucket/shards`.

Files behind a URL are listed into a folder of this machine, the mirror, which holds their names alone (`remote`). So
layouts see a folder like any other, and only opening a file knows the difference.
"""

import os
import re
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "MCIS_REMOTE_CACHE"
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]+):/+(.+)", re.S)
_ABSOLUTE = ("file", "local")  # their paths begin with a slash


def url_of(root: Path | str) -> str | None:
    """The URL that a root is, also if pathlib has merged its slashes; None for a path of this machine."""
    match = _URL.fullmatch(str(root))
    if match is None or os.path.lexists(f"{match[1]}:"):
        return None
    return _prefix(match[1].lower()) + match[2]


def _prefix(scheme: str) -> str:
    return f"{scheme}:///" if scheme in _ABSOLUTE else f"{scheme}://"


def resolved(root: Path | str, folder: Path = Path()) -> str:
    """The same place, wherever a command is run; a path is relative to a folder."""
    return url_of(root) or str((folder / root).resolve())


def may_exist(root: Path | str) -> bool:
    """Whether a path exists; of a URL only reading it shows this."""
    return url_of(root) is not None or Path(root).exists()


def mirrors() -> Path:
    """The folder of mirrors, each at the URL's own path."""
    return cache_folder(os.environ.get(CACHE_VARIABLE)) / "mirror"


@cache
def cache_folder(named: str | None) -> Path:
    """The folder of files from URLs: the named one, else that of the user."""
    if named:
        return Path(named).absolute()
    from platformdirs import user_cache_path

    return user_cache_path("mcis") / "remote"


def mirrored(path: Path | str) -> str | None:
    """The URL of a file in a mirror; None for other files."""
    place, prefix = str(path), f"{mirrors()}{os.sep}"
    if not place.startswith(prefix):
        return None
    scheme, _, rest = place.removeprefix(prefix).partition(os.sep)
    return _prefix(scheme) + rest


def with_urls(text: str) -> str:
    """A message with URLs in place of the paths of their mirrors."""
    pattern = rf"{re.escape(str(mirrors()))}/([a-z0-9+.-]+)/"
    return re.sub(pattern, lambda found: _prefix(found[1]), text)

"""What `--weights` names: a file by its whole path, or an artifact by id or tag."""

from pathlib import Path

from mcis_cli.cli.session.workspace import names_file


def weights_reference(given: Path | None) -> str | None:
    """A file of weights by its whole path, or a reference to an artifact as it is."""
    return str(given.absolute() if names_file(str(given), Path()) else given) if given else None

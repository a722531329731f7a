"""The mistakes that the page of `examples/own-photos` makes in copies of its folder."""

from pathlib import Path

from image_sets import replace_text


def misspell(folder: Path) -> None:
    """Misspell a tag."""
    replace_text(folder / "tags.csv", "002.jpg,square\n", "002.jpg,sqaure\n")


def rename_columns(folder: Path) -> None:
    """Give the columns of the table names that are not known."""
    replace_text(folder / "tags.csv", "image,tags", "picture,what")


def truncate(folder: Path) -> None:
    """Leave the beginning of a photograph."""
    photograph = folder / "photos/012.jpg"
    photograph.write_bytes(photograph.read_bytes()[:3000])

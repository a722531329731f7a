"""The rows of a table as spreadsheets and other programs write it: separated by comma, semicolon or tab."""

import csv
from pathlib import Path

from mcis_cli.data.layouts.listing import read_text
from mcis_cli.errors import DataError

TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
SEPARATORS = (",", ";", "\t")

Row = tuple[int, list[str]]


def read_rows(file: Path) -> list[Row]:
    """Rows that are not blank, with the line that each ends on.

    The separator is that of a first line `sep=;`, as Excel writes it, else the first of comma, semicolon and tab that
    the header has; in `.tsv` it is the tab.

    Raises:
        DataError: The file cannot be read, or its quotes are broken.
    """
    lines = read_text(file).split("\n")
    separator = _separator(file, lines)
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True, skipinitialspace=True)
    rows: list[Row] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{file} line {reader.line_num}: no row of a table ({error}); correct the quotes") from error
    return rows


def _separator(file: Path, lines: list[str]) -> str:
    """The separator; the line that names it, if any, is blanked."""
    first = lines[0].strip(" ")
    if first[:4].lower() == "sep=" and first[4:] in SEPARATORS:
        lines[0] = ""
        return first[4:]
    if file.suffix.lower() == ".tsv":
        return "\t"
    header = next((line for line in lines if line.strip()), "")
    return next((separator for separator in SEPARATORS if separator in header), ",")

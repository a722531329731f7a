"""`python -m benchmarks [ROW…] [--quick] [--json FILE]`: measure, and print a table."""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import housekeeping, masks, networks
from benchmarks.measuring import QUICK, Row, Sizes, machine
from benchmarks.scale import scale

ROWS: Mapping[str, Callable[[Sizes], list[Row]]] = {
    "cams-vs-released": networks.cams_vs_released,
    "cams-vs-limit": networks.cams_vs_limit,
    "references-together": networks.references_together,
    "small-memory": networks.small_memory,
    "train-vs-plain": networks.train_vs_plain,
    "kept-features": networks.kept_features,
    "pseudo-vs-loop": masks.pseudo_vs_loop,
    "crf-vs-single": masks.crf_vs_single,
    "hash": housekeeping.listing,
    "start-up": housekeeping.start_up,
    "scaling": housekeeping.scaling,
    "engine": housekeeping.engine,
    "memory": housekeeping.memory,
    "store-overhead": housekeeping.store_overhead,
    "scale": scale,
}


def main() -> None:
    """Measure the rows that are named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, a small network, one turn: shows that it works"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there, too")
    given = parser.parse_args()
    if unknown := sorted(set(given.rows) - set(ROWS)):
        parser.error(f"no row is called {unknown[0]!r}; there are {', '.join(ROWS)}")
    console = Console(markup=False, highlight=False)
    measured_on = machine()
    console.print("  ".join(f"{name}: {value}" for name, value in measured_on.items()))
    found: list[Row] = []
    for name in given.rows or ROWS:
        for row in ROWS[name](QUICK if given.quick else Sizes()):
            found.append(row)
            console.print(f"{row.name}: {row.ratio:.3g} ({row.target})  {dict(row.facts)}", soft_wrap=True)
    console.print(_table(found))
    if given.json:
        given.json.write_text(json.dumps({"machine": measured_on, "rows": [asdict(row) for row in found]}, indent=1))


def _table(rows: list[Row]) -> Table:
    table = Table("row", "what", "found", "target", "")
    for row in rows:
        table.add_row(row.name, row.what, f"{row.ratio:.3g}", row.target, "reached" if row.reached else "not reached")
    return table


if __name__ == "__main__":
    main()

"""What every target shares: with atheris it is led by coverage, without it inputs are mutated at random.

A target is called with bytes, and may raise a `McisError` of one line and nothing else.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcis_cli.errors import McisError

Target = Callable[[bytes], object]
SECONDS_EACH = 5  # of one input
_EDGES = [
    value.to_bytes(8, "little") for value in (0, 1, 127, 128, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
]


def guarded(target: Target) -> Callable[[bytes], None]:
    """The target, with what it may raise taken, and looked at."""

    def run(data: bytes) -> None:
        try:
            target(data)
        except McisError as error:
            refused = str(error)
        else:
            return
        assert refused, "an error without a word"
        assert len(refused) < 4000, f"an error of {len(refused):,} characters"

    return run


def mutated(seed: bytes, seeds: Sequence[bytes], draw: random.Random) -> bytes:
    """A seed with a few changes: bits, bytes at an edge, pieces cut, doubled, or taken from another seed."""
    data = bytearray(seed)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(8):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 3:
                width = draw.choice((1, 2, 4, 8))
                data[at : at + width] = draw.choice(_EDGES)[:width]
            case 4:
                del data[at : at + draw.randrange(1, 33)]
            case 5:
                data[at:at] = data[at : at + draw.randrange(1, 65)]
            case 6:
                other = draw.choice(seeds)
                start = draw.randrange(len(other) + 1)
                data[at:at] = other[start : start + draw.randrange(1, 65)]
            case _:
                data[at:at] = draw.randbytes(draw.randrange(1, 9))
    return bytes(data)


def mutate(target: Target, seeds: Sequence[bytes], *, count: int | None, seconds: float = 60.0, seed: int = 0) -> int:
    """Feed a target its seeds, then mutants of them, and of those mutants; returns how many inputs there were.

    Args:
        target: called with each input.
        seeds: inputs to begin with.
        count: how many inputs; None runs for `seconds`.
        seconds: how long.
        seed: of the choice.
    """
    draw, run, pool = random.Random(seed), guarded(target), list(seeds)
    until = time.monotonic() + seconds
    number = 0
    while number < count if count is not None else time.monotonic() < until:
        data = seeds[number] if number < len(seeds) else mutated(draw.choice(pool), seeds, draw)
        _limit(SECONDS_EACH)
        try:
            run(data)
        except BaseException:
            sys.stderr.write(f"input {number}: {data[:2000]!r}\n")
            raise
        finally:
            _limit(0)
        if draw.random() < 0.02 and len(pool) < 1000 and len(data) < 2**16:
            pool.append(data)
        number += 1
    return number


def _limit(seconds: int) -> None:
    """End the process by a signal if one input takes so much processor time."""
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)


def main(name: str, target: Target, seeds: Sequence[bytes]) -> None:
    """`python -m fuzz TARGET [--seconds N]`: mutate seeds, and say how many inputs there were."""
    parser = argparse.ArgumentParser(prog=name, description="Mutates seeds; with atheris installed coverage leads.")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    count = mutate(target, seeds, count=None, seconds=given.seconds, seed=given.seed)
    print(f"{name}: {count:,} inputs, nothing found")  # noqa: T201


def main_with_atheris(atheris: Any, target: Target, seeds: Sequence[bytes]) -> None:
    """`python -m fuzz TARGET [CORPUS] [-max_total_time=N …]`: what libFuzzer does, from the seeds on."""
    folder = next((Path(word) for word in sys.argv[1:] if not word.startswith("-")), None)
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="mcis-corpus-"))
        sys.argv.append(str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(content)
    atheris.Setup([sys.argv[0], f"-timeout={SECONDS_EACH}", *sys.argv[1:]], guarded(target))
    atheris.Fuzz()

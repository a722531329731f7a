"""How large the tests of the store's promises are: small in CI, large with MCIS_LONG=1, which `make test-long` sets.

With a fraction, as in MCIS_LONG=0.1, whole numbers are that part of the large ones, and never less than the small ones.
"""

import os
from typing import TypeVar

T = TypeVar("T")
SHARE = float(os.environ.get("MCIS_LONG") or 0)
LONG = SHARE > 0


def size(ci: T, long: T) -> T:
    """The size of a test: `ci` as a rule, `long` in a long run; the test function is the same."""
    if isinstance(ci, int) and isinstance(long, int) and 0 < SHARE < 1:
        return max(ci, type(ci)(round(long * SHARE)))
    return long if LONG else ci

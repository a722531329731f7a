"""Counter-based random numbers: the one source of everything random in the package.

A generator belongs to a name, not to a moment: (seed, image id, class, ...) always gives the same numbers, independent
of earlier draws, order and process. So shards, restarts and the number of workers cannot change a result.
"""

import hashlib
import json

import numpy as np


def generator(seed: int, *parts: str | int) -> np.random.Generator:
    """Make the random generator that belongs to a seed and a name.

    Args:
        seed: the user's seed, 0 or more.
        *parts: the purpose of the numbers, such as ("references", "2007_000032", "dog"). Text and numbers differ:
            "1" and 1 are two names, and so are ("ab", "c") and ("a", "bc").

    Returns:
        A Philox generator, keyed with the first 128 bits of SHA-256 of all arguments.
    """
    name = json.dumps([seed, *parts], separators=(",", ":")).encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))

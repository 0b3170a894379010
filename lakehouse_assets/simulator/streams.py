"""Random number streams: one for each purpose and each key (a day, a year), all drawn from the shop's seed.

Because no stream depends on another, a day comes out the same whether it is simulated alone or within years. What a
stream is used for belongs elsewhere.
"""

import zlib

import numpy as np


def stream(seed: int, purpose: str, key: int = 0) -> np.random.Generator:
    """Open a random stream that depends on nothing but its three arguments.

    Args:
        seed: The shop's seed, not negative.
        purpose: What the numbers are for, such as "sales".
        key: Which day (ordinal), year or knot they are for, not negative.

    Returns:
        A fresh generator.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), key])

"""A few texts and their numbers, looked up by the hash of each text.

Hashing a text costs a tenth of finding it in a dictionary of Polars (a cast to an Enum, `is_in`). What is counted under the numbers is in
`counting`, which texts have one is decided in `cells`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

_SPARE_BITS, _MOST_BITS = 6, 20
"""So many more bits than the texts need to be told apart, mostly, and the largest table."""


class TextLookup:
    """Numbers texts by their place in a sequence.

    Two texts are taken for the same if their hashes of 64 bits are: of a billion different texts one in ten million tables has such a pair.

    Args:
        texts: All different.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.size = len(texts)
        hashes = pl.Series(texts, dtype=pl.String).hash().to_numpy()
        order = np.argsort(hashes)
        bits = min(self.size.bit_length() + _SPARE_BITS, _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        inside = np.bincount((hashes >> self._shift).astype(np.intp), minlength=1 << bits)
        self._first = (np.cumsum(inside) - inside).astype(np.int32)
        self._steps = max(1, int(inside.max()))
        # Behind the last text there is none, whatever its hash.
        self._hashes = np.append(hashes[order], np.zeros(self._steps, dtype=np.uint64))
        self._places = np.append(order, np.full(self._steps, self.size))

    def find(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        """The place of each text, by its hash in Polars; of a text that is none of these the number of texts."""
        at = self._first.take((hashes >> self._shift).view(np.int64)).astype(np.intp)
        found = self._one(at, hashes)
        for step in range(1, self._steps):
            np.minimum(found, self._one(at + step, hashes), out=found)
        return found

    def _one(self, at: npt.NDArray[np.intp], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        places: npt.NDArray[np.intp] = self._places.take(at)
        places[self._hashes.take(at) != hashes] = self.size
        return places

"""Masking of tokens: the numbers of the rule, and the table of special tokens.

`fastdrop._batch.tokens` makes them, and the drivers of both backends pass them to their kernels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

NO_SPECIAL, BY_PLACE, BY_ID = range(3)  # how a call says which tokens are never chosen
FEW = 6  # special ids that are compared with each token
_MOST_TABLE_BITS = 1 << 19  # of 64 KiB, which stay in the L2 cache


class Rule(NamedTuple):
    """What becomes of a token that is not special, by draws and thresholds of the contract."""

    chosen: int  # it is chosen if draw 0 is below this
    masked: int  # then it becomes `mask_id` if draw 1 is below this,
    replaced: int  # else a token of the vocabulary, by draws from 2 on, if draw 1 is below this
    mask_id: int
    ignore_index: int  # the label of tokens that are not chosen
    vocabulary: int  # number of tokens


class Special(NamedTuple):
    """Which tokens are never chosen: how that is said, and what is read for it."""

    how: int = NO_SPECIAL
    marks: Any = None  # by place: an array of bytes that are not 0 where a token is special
    # By id. Kernels look at ids less the least one, modulo the range of the dtype: `ids` are those,
    # sorted, at least `FEW` of them, and `table` has bits, by their lowest bits.
    table: Any = None
    ids: Any = None
    least: int = 0
    span: int = 0  # the largest, less the least
    table_mask: int = 0
    is_exact: bool = True  # whether the table has a bit for each id up to the largest

    def words(self) -> tuple[int, ...]:
        """Return the numbers that kernels get."""
        number = 0 if self.ids is None else self.ids.size
        return self.how, self.least, self.span, self.table_mask, int(self.is_exact), number


def special_ids(ids: npt.NDArray[Any]) -> Special:
    """Return the table of ids of one integer dtype, in any order."""
    given = np.unique(ids)
    if not given.size:
        return Special()
    offsets = given.astype(np.uint64) - np.uint64(int(given[0]) % 2**64)
    span = int(offsets[-1])
    bits = 64
    while bits <= span and bits < _MOST_TABLE_BITS:
        bits *= 2
    place = offsets & np.uint64(bits - 1)
    table: npt.NDArray[np.uint64] = np.zeros(bits // 64, np.uint64)
    np.bitwise_or.at(table, place >> np.uint64(6), np.uint64(1) << (place & np.uint64(63)))
    if offsets.size < FEW:
        again = np.zeros(FEW - offsets.size, np.uint64)  # the least, which is first
        offsets = np.concatenate([again, offsets])
    return Special(BY_ID, None, table, offsets, int(given[0]), span, bits - 1, span < bits)

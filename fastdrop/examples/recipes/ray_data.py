"""Ray Data: masks by the number of a row, whatever the blocks, batches and order of rows.

Rows are read by their numbers, from `ray.data.range`, and keep them. So each has its mask, after
`repartition` and `random_shuffle`, in batches of any size, in a task that is run again. (Numbers of
`monotonically_increasing_id` depend on the tasks, and `zip` on an order that Ray may not keep.)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import ray

import fastdrop as fd

Batch = dict[str, Any]


def dropped(batch: Batch, column: str, p: float, key: fd.Key) -> Batch:
    """Drop elements of a column of a batch by the mask of all rows; for `map_batches`."""
    x, rows = batch[column], batch["id"]
    y = np.empty_like(x)
    # Rows that follow each other are one stretch of the mask, and one call.
    bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1), len(rows)]
    with fd.threads(1):  # Ray runs several tasks at once
        for start, stop in pairwise(bounds):
            if start < stop:
                first = int(rows[start]) * x[0].size
                fd.dropout(x[start:stop], p, rng=key, offset=first, out=y[start:stop])
    return batch | {column: y}


def run() -> None:
    """Compare data sets in other blocks, batches and orders with a call on all rows."""
    x = np.random.default_rng(0).standard_normal((500, 16)).astype(np.float32)
    key = fd.Key(3)
    expected = fd.dropout(x, 0.5, rng=key)

    def read(batch: Batch) -> Batch:
        return {"id": batch["id"], "data": x[batch["id"]]}

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        numbered = ray.data.range(len(x)).map_batches(read)
        for data, batch_size in (
            (numbered, None),
            (numbered.repartition(7), 64),
            (numbered.repartition(5).random_shuffle(seed=1), 33),
        ):
            options = {"column": "data", "p": 0.5, "key": key}
            masked = data.map_batches(dropped, batch_size=batch_size, fn_kwargs=options)
            found = np.full_like(x, np.nan)
            for row in masked.take_all():
                found[row["id"]] = row["data"]
            assert found.tobytes() == expected.tobytes()
    finally:
        ray.shutdown()

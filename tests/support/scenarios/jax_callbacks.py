"""Many callbacks of the JAX recipe, on few processors: they must not wait for each other.

``python -m tests.support.scenarios.jax_callbacks PROCESSORS``
"""

from __future__ import annotations

import os
import sys
from typing import Any

assert sys.platform == "linux"

PROCESSORS = int(sys.argv[1])
# Before JAX starts its threads, one for each processor, or each device if they are more.
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={PROCESSORS}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import fastdrop as fd  # noqa: E402
from fastdrop.examples.recipes.jax_callback import dropout, fastdrop_key  # noqa: E402

KEY = jax.random.key(3)
P = 0.25


def large_arrays() -> None:
    """16 Mi elements, forward and backward, queued without waiting for any."""

    def loss(x: Any, key: Any) -> Any:
        return jnp.sum(jnp.sin(dropout(x, P, key)))

    step = jax.jit(jax.grad(loss))
    x = np.random.default_rng(0).uniform(1, 2, 1 << 24).astype(np.float32)
    queued = [step(x, jax.random.fold_in(KEY, n)) for n in range(16)]
    for n, result in enumerate(queued):
        key = fastdrop_key(jax.random.key_data(jax.random.fold_in(KEY, n)))
        kept = fd.dropout_mask(x.shape, P, rng=key)
        assert np.array_equal(np.asarray(result) != 0, kept)


def callbacks_at_once() -> None:
    """Independent ones in one program, which XLA may run side by side, and a chain of them."""

    def program(x: Any, keys: Any) -> Any:
        y = jnp.stack([dropout(x, P, key) for key in keys])
        for key in keys:
            y = dropout(y, P, key)
        return y

    x = np.ones(1 << 18, np.float32)
    keys = jax.random.split(KEY, 4)
    run = jax.jit(program)
    results = [run(x, keys) for _ in range(25)]
    found = [fastdrop_key(words) for words in jax.random.key_data(keys)]
    expected = np.stack([fd.dropout(x, P, rng=key) for key in found])
    for key in found:
        expected = fd.dropout(expected, P, rng=key)
    for result in results:
        assert np.array_equal(result, expected)


def many_keys() -> None:
    """Keys above the size up to which JAX copies a callback's arguments at once."""
    keys = jax.random.split(KEY, 40_000)
    x = np.ones((len(keys), 8), np.float32)
    rows = np.asarray(jax.jit(jax.vmap(lambda x, key: dropout(x, P, key)))(x, keys))
    for n in (0, 1, 20_000, len(keys) - 1):
        key = fastdrop_key(jax.random.key_data(keys[n]))
        assert np.array_equal(rows[n], fd.dropout(x[n], P, rng=key))


def shards() -> None:
    """Each draws its part of one mask, in a callback of its own device."""
    mesh = jax.make_mesh((PROCESSORS,), ("rows",))
    spec = jax.sharding.PartitionSpec("rows")

    def shard(x: Any) -> Any:
        return dropout(x, P, KEY, jax.lax.axis_index("rows") * x.size)

    x = np.ones((64, 999), np.float32)
    sharded = jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=spec))
    expected = fd.dropout(x, P, rng=3)
    x = jax.device_put(x, jax.sharding.NamedSharding(mesh, spec))
    for result in [sharded(x) for _ in range(25)]:
        assert len(result.sharding.device_set) == PROCESSORS
        assert np.array_equal(result, expected)


if __name__ == "__main__":
    for check in (large_arrays, callbacks_at_once, many_keys, shards):
        check()
        print(check.__name__)

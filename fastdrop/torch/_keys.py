"""Keys as tensors of two int64: the words of a `fastdrop.Key`, as signed integers.

`_draws` and the calls to the kernels use them. A key is a tensor because torch's transforms treat
it as one then: `vmap` batches it by its rule for random numbers, `torch.utils.checkpoint` draws it
again from the generator's restored state, and a backward that saves it keeps 16 bytes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._check.detect import described
from .._check.key import Key, KeyOnDevice, as_key, made_key

CPU = torch.device("cpu")  # named because torch's default device may be another
_function_modes = torch._C._len_torch_function_stack  # a default device is one
WORD = (1 << 64) - 1
_LEAST, _END = -(1 << 63), (1 << 63) - 1  # torch.randint leaves out the last one


def drawn(generator: torch.Generator | None = None, device: torch.device = CPU) -> Tensor:
    """Draw a key from a generator of torch, by default from that of a device; it lies there."""
    # To name the device takes as long again as to draw: 1.4 us.
    if generator is None and device is CPU and not _function_modes():
        key = torch.randint(_LEAST, _END, (2,))
        if key.is_cpu:
            return key
    device = device if generator is None else generator.device
    return torch.randint(_LEAST, _END, (2,), generator=generator, device=device)


def as_tensor(key: Any) -> Tensor:
    """Return seed and stream as a tensor of two int64 on the CPU."""
    if isinstance(key, KeyOnDevice):
        raise TypeError(
            "key is a DeviceKey, whose changes torch does not see: give a tensor of two int64 on "
            "the GPU, such as key=torch.tensor([seed, stream], device='cuda'), which kernels read "
            "when they run, too, and key[1] += 1 for the next mask"
        )
    try:
        seed, stream = as_key(key)
    except TypeError:
        raise TypeError(
            f"{described('key', key)}: give a tensor of two int64, a torch.Generator, a "
            "fastdrop.Key, an int, or None for torch's default generator"
        ) from None
    except ValueError as error:  # of an argument that is called `rng` elsewhere
        raise ValueError(str(error).replace("rng", "key", 1)) from None
    return torch.tensor([_signed(seed), _signed(stream)], device=CPU)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def words(key: Tensor) -> tuple[int, int]:
    """Return seed and stream of a key, as unsigned integers."""
    seed, stream = key.tolist()
    return seed & WORD, stream & WORD


def key_of(key: Tensor) -> Key:
    """Return the `fastdrop.Key` of a tensor of two int64.

    Parameters
    ----------
    key : Tensor
        A key that `draw_key` drew, or any two integers, as signed ones. One on a GPU is waited for.

    Returns
    -------
    fastdrop.Key
        With it, `fastdrop.dropout_mask` draws the mask that the functions of
        `fastdrop.torch.functional` draw with the tensor.

    Raises
    ------
    TypeError
        If it is no tensor of two int64.
    """
    return made_key(*words(checked(key)))


def checked(key: Any) -> Tensor:
    """Return a tensor if it is a key; raise TypeError if not."""
    if not isinstance(key, Tensor):
        raise TypeError(f"{described('key', key)}: give a tensor of two int64")
    if key.dtype != torch.int64 or key.shape != (2,):
        raise TypeError(
            f"key is a tensor of shape {tuple(key.shape)} and {key.dtype}: give one of two int64, "
            "such as fastdrop.torch.draw_key() returns, or a fastdrop.Key"
        )
    return key

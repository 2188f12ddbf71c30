"""`TokenCollator`: padding, keys by step and by sample, and PyTorch's DataLoader with workers."""

from __future__ import annotations

import copy
import json
import multiprocessing
import pickle
import subprocess
import sys
from collections import UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fastdrop as fd
from tests.support.oracle import ROOT, Array, assert_same

KEY = fd.Key(2**60 + 1, 3)
RULE: dict[str, Any] = {"mask_id": 1, "pad_id": 0, "vocab_size": 500, "special": [2, 3]}
OFTEN: dict[str, Any] = {**RULE, "mlm_probability": 0.5, "rng": KEY}


class Tokenizer:
    """What a tokenizer of the transformers package tells a collator."""

    pad_token_id, mask_token_id, all_special_ids, padding_side = 0, 1, [0, 1, 2, 3], "right"

    def __len__(self) -> int:
        return 500


def sample(n: int, length: int | None = None) -> list[int]:
    """The n-th sample of a data set."""
    rng = np.random.default_rng(n)
    size = rng.integers(4, 40) if length is None else length
    return [2, *rng.integers(4, 500, size).tolist(), 3]


def as_dict(n: int) -> dict[str, Any]:
    return {"input_ids": sample(n), "sample_index": n}


def samples_of(batch: dict[str, Any]) -> Iterator[tuple[Array, Array]]:
    """Inputs and labels of each sample, without padding."""
    arrays = {name: np.asarray(array) for name, array in batch.items()}
    for k, there in enumerate(arrays["attention_mask"] == 1):
        yield arrays["input_ids"][k][there], arrays["labels"][k][there]


def originals(batch: dict[str, Any]) -> Iterator[list[int]]:
    for inputs, labels in samples_of(batch):
        yield np.where(labels == -100, inputs, labels).tolist()


def test_a_batch_is_padded_and_masked_by_mask_tokens() -> None:
    collate = fd.TokenCollator(**OFTEN, pad_to_multiple_of=8)
    features = [sample(n) for n in range(7)]
    for step in range(3):
        assert collate.step == step
        batch = collate(features)
        width = -(-max(map(len, features)) // 8) * 8
        ids = np.zeros((7, width), np.int64)
        for k, feature in enumerate(features):
            ids[k, : len(feature)] = feature
        inputs, labels = fd.mask_tokens(
            ids, 0.5, mask_id=1, vocab_size=500, special=[0, 2, 3], rng=KEY.fold_in(step)
        )
        assert list(batch) == ["input_ids", "attention_mask", "labels"]
        assert_same(batch["input_ids"], inputs)
        assert_same(batch["labels"], labels)
        assert_same(batch["attention_mask"], (ids != 0).astype(np.int64))
    assert features == [sample(n) for n in range(7)]


def test_a_tokenizer_says_the_numbers() -> None:
    names: dict[str, Any] = {"mlm": True, "mlm_probability": 0.5, "mask_replace_prob": 0.9}
    ours = fd.TokenCollator(Tokenizer(), **names, random_replace_prob=0.1, rng=KEY)
    numbers = fd.TokenCollator(None, **names, **{**RULE, "special": [0, 1, 2, 3]}, rng=KEY)
    features = [sample(n) for n in range(20)]
    mine, other = ours(features), numbers(features)
    for name in mine:
        assert_same(mine[name], other[name])
    chosen = mine["labels"] != -100
    assert not (mine["labels"] == mine["input_ids"])[chosen & (mine["input_ids"] == 1)].any()
    other_special = fd.TokenCollator(Tokenizer(), special=[2], vocab_size=600, rng=KEY)
    assert other_special(features)["labels"].shape == mine["labels"].shape


def test_samples_are_lists_arrays_tensors_and_mappings() -> None:
    features = [sample(n) for n in range(3)]
    expected = fd.TokenCollator(**OFTEN)(features)
    kinds: list[Any] = [
        [np.array(f, np.int16) for f in features],
        [tuple(f) for f in features],
        [{"input_ids": f} for f in features],
        [UserDict(input_ids=f, attention_mask=[1] * len(f), labels=[9]) for f in features],
    ]
    for kind in kinds:
        batch = fd.TokenCollator(**OFTEN)(kind)
        assert list(batch) == list(expected)
        for name in batch:
            assert_same(batch[name], expected[name])


def test_masks_that_samples_have_say_what_is_special() -> None:
    tokens = [[9, 2, 5, 6], [5, 6, 3]]
    collate = fd.TokenCollator(**{**RULE, "mlm_probability": 1.0, "mask_replace_prob": 1},
                               random_replace_prob=0)  # fmt: skip
    special = [[1, 0, 0, 0], [0, 0, 1]]
    batch = collate(
        [
            {"input_ids": t, "special_tokens_mask": s, "token_type_ids": [1] * len(t), "n": k}
            for k, (t, s) in enumerate(zip(tokens, special, strict=True))
        ]
    )
    assert batch["input_ids"].tolist() == [[9, 1, 1, 1], [1, 1, 3, 0]]
    assert batch["labels"].tolist() == [[-100, 2, 5, 6], [5, 6, -100, -100]]
    assert batch["token_type_ids"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert batch["n"].tolist() == [0, 1] and "special_tokens_mask" not in batch
    hidden = [{"input_ids": t, "attention_mask": [0, *[1] * (len(t) - 1)]} for t in tokens]
    batch = collate(hidden)
    assert batch["input_ids"].tolist() == [[9, 2, 1, 1], [5, 1, 3, 0]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 1, 0]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_sample_is_masked_alike_in_any_batch(side: str) -> None:
    collate = fd.TokenCollator(**OFTEN, sample_index="sample_index", padding_side=side)
    alone = [collate([as_dict(n)]) for n in range(9)]
    for order in ([3, 1, 8], [8, 7, 6, 5, 4, 3, 2, 1, 0], [3]):
        batch = collate([as_dict(n) for n in order])
        assert "sample_index" not in batch
        for n, found, original in zip(order, samples_of(batch), originals(batch), strict=True):
            ((inputs, labels),) = samples_of(alone[n])
            np.testing.assert_array_equal(found[0], inputs)
            np.testing.assert_array_equal(found[1], labels)
            assert original == sample(n)
    key = KEY.fold_in(0).fold_in(8)
    inputs, labels = fd.mask_tokens(
        np.array(sample(8)), 0.5, mask_id=1, vocab_size=500, special=[2, 3], rng=key
    )
    ((found_inputs, found_labels),) = samples_of(alone[8])
    np.testing.assert_array_equal(found_inputs, inputs)
    np.testing.assert_array_equal(found_labels, labels)


def test_numbers_of_samples_may_be_computed() -> None:
    features = [as_dict(n) for n in range(5)]
    by_name = fd.TokenCollator(**OFTEN, sample_index="sample_index")(features)
    by_function = fd.TokenCollator(**OFTEN, sample_index=lambda f: f["sample_index"])
    assert_same(by_function(features)["input_ids"], by_name["input_ids"])
    arrays = [{**f, "sample_index": np.array(n)} for n, f in enumerate(features)]
    batch = fd.TokenCollator(**OFTEN, sample_index="sample_index")(arrays)
    assert_same(batch["input_ids"], by_name["input_ids"])


def test_epochs_differ_and_come_again() -> None:
    collate = fd.TokenCollator(**OFTEN, sample_index="sample_index")
    features = [as_dict(n) for n in range(5)]
    first = collate(features)["labels"]
    collate.set_epoch(1)
    assert collate.epoch == 1
    second = collate(features)["labels"]
    assert (first != second).any()
    collate.set_epoch(0)
    assert_same(collate(features)["labels"], first)
    with pytest.raises(RuntimeError, match="counts steps"):
        fd.TokenCollator(**OFTEN).set_epoch(1)


def test_a_saved_state_goes_on() -> None:
    features = [sample(n) for n in range(5)]
    collate = fd.TokenCollator(**OFTEN)
    batches = [collate(features)["labels"] for _ in range(4)]
    resumed = fd.TokenCollator(**{**OFTEN, "rng": 1})
    collate.step = 2
    resumed.load_state_dict(json.loads(json.dumps(collate.state_dict())))
    copies = [resumed, pickle.loads(pickle.dumps(collate)), copy.deepcopy(collate)]
    for other in copies:
        assert other.key == KEY
        for expected in batches[2:]:
            assert_same(other(features)["labels"], expected)
    by_sample = fd.TokenCollator(**OFTEN, sample_index="sample_index")
    by_sample.set_epoch(7)
    again = pickle.loads(pickle.dumps(by_sample))
    assert again.epoch == 7 and "Key(seed" in repr(again)
    again.set_epoch(8)
    assert by_sample.epoch == 7
    for state in ({}, {**collate.state_dict(), "more": 1}, {**collate.state_dict(), "step": -1}):
        with pytest.raises(ValueError):
            collate.load_state_dict(state)


def test_a_forked_copy_refuses_to_count_steps() -> None:
    collate = fd.TokenCollator(**OFTEN)
    collate._process -= 1  # as in another process
    with pytest.raises(RuntimeError, match="in another process: copies would count"):
        collate([sample(1)])
    assert collate.step == 0
    copy.deepcopy(collate)([sample(1)])  # one that was made there


def test_no_torch_is_imported_for_arrays() -> None:
    code = (
        "import sys, fastdrop as fd\n"
        "c = fd.TokenCollator(mask_id=1, pad_id=0, vocab_size=9, rng=1)\n"
        "c([[2, 3], [4]]); assert 'torch' not in sys.modules"
    )
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'kernels'}"}
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT, env={**_environment(), **paths}
    )


def _environment() -> dict[str, str]:
    import os

    return dict(os.environ)


class Samples:
    """A data set that gives samples with their numbers."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, n: int) -> dict[str, Any]:
        return as_dict(n)


class Lists(Samples):
    def __getitem__(self, n: int) -> Any:
        return sample(n)


def loader(data: Samples, collate: Any, **more: Any) -> Any:
    torch = pytest.importorskip("torch", reason="DataLoader is of torch")
    given: dict[str, Any] = {"batch_size": 4, "num_workers": 2, **more}
    return torch.utils.data.DataLoader(data, collate_fn=collate, **given)


forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@forks
def test_workers_of_a_data_loader_repeat_no_masks() -> None:
    torch = pytest.importorskip("torch", reason="DataLoader is of torch")
    collate = fd.TokenCollator(**OFTEN, sample_index="sample_index", return_tensors="pt")
    seen = []
    shuffled = loader(Samples(), collate, shuffle=True, persistent_workers=True)
    for epoch in range(2):
        collate.set_epoch(epoch)
        batches = list(shuffled)
        assert all(batch["input_ids"].dtype is torch.int64 for batch in batches)
        masks = {}
        for batch in batches:
            for original, (_, labels) in zip(originals(batch), samples_of(batch), strict=True):
                masks[tuple(original)] = labels != -100
        assert sorted(masks) == sorted(tuple(sample(n)) for n in range(40))
        # Alike in this process, in other batches.
        for n in range(40):
            ((_, labels),) = samples_of(collate([as_dict(n)], return_tensors="np"))
            np.testing.assert_array_equal(masks[tuple(sample(n))], labels != -100)
        seen += [mask[1:5].tobytes() + mask[5:].tobytes() for mask in masks.values()]
    longest = [mask for mask in seen if len(mask) > 20]
    assert len(longest) > 40 and len(set(longest)) == len(longest)


@forks
def test_a_data_loader_is_told_that_copies_count_alike() -> None:
    with pytest.raises(RuntimeError, match="worker [01] of a DataLoader: copies would count"):
        list(loader(Lists(), fd.TokenCollator(**OFTEN)))
    batches = list(loader(Lists(), fd.TokenCollator(**OFTEN), num_workers=0))
    assert len(batches) == 10


@pytest.mark.slow
def test_a_spawned_data_loader_shares_the_epoch() -> None:
    collate = fd.TokenCollator(**OFTEN, sample_index="sample_index")
    spawned = multiprocessing.get_context("spawn")
    batches = loader(
        Samples(), collate, persistent_workers=True, multiprocessing_context=spawned, num_workers=1
    )
    for epoch in (0, 5):
        collate.set_epoch(epoch)
        first = next(iter(batches))
        expected = collate([as_dict(n) for n in range(4)])
        assert_same(np.asarray(first["labels"]), expected["labels"])


def test_tensors_are_taken_and_given() -> None:
    torch = pytest.importorskip("torch", reason="tensors are of torch")
    features = [torch.tensor(sample(n)) for n in range(3)]
    batch = fd.TokenCollator(**OFTEN, return_tensors="pt")(features)
    expected = fd.TokenCollator(**OFTEN)([sample(n) for n in range(3)])
    for name, tensor in batch.items():
        assert isinstance(tensor, torch.Tensor)
        assert_same(tensor.numpy(), expected[name])


@pytest.mark.parametrize(
    ("given", "kind", "match"),
    [
        ({"mlm": False}, ValueError, "mlm=False masks nothing"),
        ({"mlm_probability": 2}, ValueError, "mlm_probability=2"),
        ({"mask_replace_prob": 0.8, "random_replace_prob": 0.3}, ValueError, "sum above 1"),
        ({"pad_to_multiple_of": 0}, ValueError, "pad_to_multiple_of=0"),
        ({"return_tensors": "tf"}, ValueError, "return_tensors='tf'"),
        ({"sample_index": 3}, TypeError, "sample_index=3"),
        ({"mask_id": None}, ValueError, "mask_id is missing"),
        ({"vocab_size": None}, ValueError, "vocab_size is missing"),
        ({"mask_id": 500}, ValueError, "mask_id=500 is not in the vocabulary"),
        ({"padding_side": "top"}, ValueError, "padding_side='top'"),
        ({"seed": 3}, TypeError, "give rng=3"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(given: Any, kind: type[Exception], match: str) -> None:
    generator = np.random.default_rng(1)
    before = generator.bit_generator.state
    with pytest.raises(kind, match=match):
        fd.TokenCollator(**{**RULE, "rng": generator, **given})
    assert generator.bit_generator.state == before


@pytest.mark.parametrize(
    ("features", "match"),
    [
        ([], "features is empty"),
        ([[1, 2], [[1]]], r"features\[1\] has tokens with 2 axes"),
        ([[1, 2], {"tokens": [1]}], r"features\[1\] has no 'input_ids'.*tokens"),
        ([{"input_ids": [1, 2], "x": [1]}], "features.0. has 2 tokens, and 'x' of shape"),
        ([{"input_ids": [4], "x": 1}, {"input_ids": [4]}], r"features\[1\] has no 'x'"),
        ([{"input_ids": [4], "attention_mask": [1]}, [4]], "has no 'attention_mask'"),
    ],
    ids=str,
)
def test_wrong_samples_are_refused(features: Any, match: str) -> None:
    collate = fd.TokenCollator(**OFTEN)
    with pytest.raises(ValueError, match=match):
        collate(features)
    assert collate.step == 0


def test_samples_without_numbers_or_padding_are_refused() -> None:
    collate = fd.TokenCollator(**OFTEN, sample_index="row")
    for features in ([as_dict(1)], [sample(1)]):
        with pytest.raises(ValueError, match="no 'row', the number of the sample"):
            collate(features)
    for number, match in ((-1, "is below 0"), (2**62, r"below 2\*\*62")):
        with pytest.raises(ValueError, match=match):
            collate([{"input_ids": [4], "row": number}])
    unpadded = fd.TokenCollator(mask_id=1, vocab_size=9, rng=1)
    unpadded([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="samples have 1 to 2 tokens.*give pad_id"):
        unpadded([[1, 2], [3]])
    with pytest.raises(TypeError, match="tokens of dtype float64"):
        unpadded([[1.5]])
    empty = fd.TokenCollator(**RULE, rng=1)([[], []])
    assert empty["input_ids"].shape == (2, 0)

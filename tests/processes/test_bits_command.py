"""``python -m fastdrop bits`` streams the uniforms of the contract, and stops without complaint."""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from fastdrop import Key
from fastdrop import __main__ as command
from fastdrop_kernels import contract
from fastdrop_kernels.cpu.batch.uniforms import write_uniforms
from tests.support.internals import bits

KEY = Key(0x1234567890ABCDEF, 2**63 + 5)
ELEMENTS = (1 << 20) + 1000  # more than is drawn at once


def _expected(first: int, count: int) -> np.ndarray:
    index = np.arange(first, first + count, dtype=np.uint64)
    drawn = contract.uniform32(np.uint64(KEY.seed), np.uint64(KEY.stream), index)
    return np.asarray(drawn).astype(np.uint32)


def _written(*options: str) -> bytes:
    parser = argparse.ArgumentParser()
    bits.add_arguments(parser.add_subparsers().add_parser)
    key = ["--seed", hex(KEY.seed), "--stream", str(KEY.stream)]
    out = io.BytesIO()
    assert bits.write(parser.parse_args(["bits", *key, *options]), out) == 0
    return out.getvalue()


@pytest.mark.parametrize("first", [0, 5, 2**35 - 3, 2**62 + 1])
@pytest.mark.parametrize("count", [1, 77, (1 << 14) + 9])
def test_the_kernel_writes_the_uniforms_of_the_contract(first: int, count: int) -> None:
    y = np.full(count + 2, 0xDEADBEEF, np.uint32)
    write_uniforms(y[1:-1], KEY.seed, KEY.stream, first)
    assert np.array_equal(y[1:-1], _expected(first, count))
    assert y[0] == y[-1] == 0xDEADBEEF


def test_the_kernel_refuses_what_is_no_array_of_words() -> None:
    read_only = np.zeros(8, np.uint32)
    read_only.flags.writeable = False
    wrongs: tuple[Any, ...] = (np.zeros(8, np.int32), np.zeros(16, np.uint32)[::2], read_only)
    for wrong in wrongs:
        with pytest.raises(ValueError, match="contiguous array of uint32"):
            write_uniforms(wrong, 0, 0, 0)


def test_the_stream_is_the_uniforms_in_order() -> None:
    data = _written("--bytes", str(4 * ELEMENTS))
    assert np.array_equal(np.frombuffer(data, "<u4"), _expected(0, ELEMENTS))
    assert _written("--bytes", "1001") == data[:1001]
    assert len(_written("--bytes", "3K")) == len(_written("--bytes", "3KiB")) == 3 * 1024


def test_a_level_is_the_half_of_the_uniforms() -> None:
    upper, lower = (
        np.frombuffer(_written("--level", level, "--bytes", "4000"), "<u2") for level in "01"
    )
    assert np.array_equal(upper.astype(np.uint32) << 16 | lower, _expected(0, 2000))
    # Level 0 is Philox's own output, word by word.
    words = contract.block_bits(*(np.uint64(n) for n in (KEY.seed, KEY.stream, 1, 0)))
    assert upper[8:16].tobytes() == np.array(words, "<u8").tobytes()


def test_it_stops_in_silence_when_the_reader_has_enough() -> None:
    line = [sys.executable, "-m", "fastdrop", "bits", "--seed", "3"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    first = process.stdout.read(64)
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""
    process.stderr.close()
    index = np.arange(16, dtype=np.uint64)
    expected = contract.uniform32(np.uint64(3), np.uint64(0), index).astype("<u4")
    assert first == expected.tobytes()


class _Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = io.TextIOWrapper(_Terminal())
    monkeypatch.setattr(sys, "stdout", terminal)
    assert command.main(["bits"]) == 2
    assert "this is a terminal" in capsys.readouterr().err
    assert terminal.buffer.tell() == 0


@pytest.mark.parametrize(
    "options",
    [
        ("--bytes", "many"),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--stream", str(2**64)),
        ("--level", "2"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["bits", *options])
    assert options[1] in capsys.readouterr().err

"""`python -m bench endure`: cases repeat by their numbers, and what is wrong is found and told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rich", reason="the benchmarks show tables and a progress bar")
pytest.importorskip("matplotlib", reason="the results are drawn")

from bench import endure, results  # noqa: E402
from bench.__main__ import main  # noqa: E402
from tests.support import per_element  # noqa: E402
from tests.support.endurance import cases, elements  # noqa: E402
from tests.support.endurance.draws import Draw, Target  # noqa: E402
from tests.support.oracle import mask, poisoned  # noqa: E402

SEED = 5


def number_of(name: str) -> int:
    """The first case of a name."""
    return next(n for n in range(10_000) if cases.name_of(Draw(SEED, n)) == name)


def test_every_name_is_drawn_and_a_case_is_its_number() -> None:
    assert {cases.name_of(Draw(SEED, n)) for n in range(2000)} == set(cases.CASES)
    one, other = (Draw(SEED, 3) for _ in range(2))
    assert [one.shape(), one.key(), one.p()] == [other.shape(), other.key(), other.p()]


def test_a_wrong_result_is_told_with_what_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    number = number_of("dropout_mask")
    name, _ = cases.run_case(SEED, number)
    assert name == "dropout_mask"

    def wrong(*given: Any, **named: Any) -> Any:
        return ~mask(*given, **named)

    monkeypatch.setattr(elements, "mask", wrong)
    monkeypatch.setattr(per_element, "kept_by", wrong)
    with pytest.raises(cases.CaseError, match=r"dropout_mask: shape=.* key="):
        cases.run_case(SEED, number)


def test_elements_beside_an_output_are_watched() -> None:
    base = poisoned((8, 8), np.float32)
    target = Target(base[::2], base)
    base[::2] = 1
    target.check(np.ones((4, 8), np.float32))
    base[1, 3] = 1
    with pytest.raises(AssertionError, match="beside out"):
        target.check(np.ones((4, 8), np.float32))


def test_growth_is_that_of_the_steady_part() -> None:
    rows = [{"seconds": 10.0 * n, "files": 5 + 3 * min(n, 20)} for n in range(100)]
    assert endure.growth(rows, "files") == 0
    rows = [{"seconds": 10.0 * n, "files": 5 + 2 * n + n % 3} for n in range(100)]
    assert abs(endure.growth(rows, "files") - 720) < 1  # an hour


@pytest.mark.parametrize("lost", [0, 50])
def test_memory_of_new_kernels_is_no_growth(lost: int) -> None:
    """Kernels come ever less often; what else is lost, comes with time."""
    rows: list[dict[str, Any]] = []
    for n in range(100):
        loaded, compiled = round(900 * (1 - 0.97**n)), round(40 * (1 - 0.9**n)) + n // 7
        at_rest = 10**8 + 250_000 * loaded + 1_700_000 * compiled + lost * 10 * n + 30 * (n % 3)
        row = {"at_rest": at_rest, "kernels": loaded + compiled, "compiled": compiled}
        rows.append({"seconds": 10.0 * n, **row})
    of_loaded, of_compiled, hourly = endure.growth_at_rest(rows)
    assert abs(of_loaded - 250_000) < 50 and abs(of_compiled - 1_700_000) < 100
    assert abs(hourly - lost * 3600) < 3000  # bytes


def test_a_case_is_repeated_alone() -> None:
    assert main(["endure", "--seed", str(SEED), "--case", str(number_of("Key"))]) == 0


@pytest.mark.slow
def test_a_short_run_writes_and_draws_its_results(tmp_path: Path) -> None:
    file = tmp_path / "endure.json"
    assert main(["endure", "--minutes", "0.3", "--seed", "1", "--output", str(file)]) == 0
    found = results.load(file)
    assert results.rows(found, "endure-total")[0]["calls"] > 0
    assert "resident memory" in (tmp_path / "endure.svg").read_text(encoding="utf-8")

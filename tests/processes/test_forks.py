"""A forked child computes, whatever other threads of its parent were doing.

Forks after and during calls are in test_threading_layers.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.subprocesses import run_scenario
from tests.support.systems import needs_fork

pytestmark = needs_fork


@pytest.mark.parametrize("module", [pytest.param("numpy.random", marks=pytest.mark.slow), "numba"])
def test_a_child_forked_while_another_thread_imports_computes(module: str) -> None:
    assert run_scenario("first_call", "import", module).strip() == "done"


@pytest.mark.parametrize("whose", ["device", pytest.param("user", marks=pytest.mark.slow)])
def test_a_child_forked_during_a_user_s_import_computes(whose: str) -> None:
    assert run_scenario("first_call", whose).strip() == "done"


@pytest.mark.slow
def test_a_child_forked_while_another_thread_compiles_can_compile(tmp_path: Path) -> None:
    output = run_scenario(
        "first_call", "compile", environment={"FASTDROP_CACHE_DIR": str(tmp_path)}
    )
    assert output.strip() == "done"


@pytest.mark.parametrize("which", ["call", pytest.param("first", marks=pytest.mark.slow)])
def test_a_child_forked_by_a_signal_handler_inside_a_call_says_so(which: str) -> None:
    assert run_scenario("forked_handler", which).strip() == "done"


def test_a_child_forked_while_another_thread_calls_llvm_computes() -> None:
    assert run_scenario("first_call", "llvm").strip() == "done"


@pytest.mark.slow
def test_a_child_forked_while_a_users_code_is_compiled_computes() -> None:
    assert run_scenario("first_call", "numba").strip() == "done"

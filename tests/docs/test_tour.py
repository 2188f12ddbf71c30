"""The notebook runs, gives what it was committed with, and is small."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.oracle import ROOT

TOUR = ROOT / "docs" / "tour.ipynb"
_TIMED = "times as fast"


def committed() -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    return cells


def texts(cells: list[dict[str, Any]]) -> list[str]:
    """Return what cells print and what their last line is; not of the one that measures."""
    found = []
    for cell in cells:
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            found.append("".join(text))
    return [text for text in found if _TIMED not in text]


def test_it_is_committed_as_it_ran_and_small() -> None:
    cells = [cell for cell in committed() if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len(json.dumps(outputs)) < 300_000
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 3
    assert not re.search(r"/(home|root|tmp|work)/", TOUR.read_text(encoding="utf-8"))


def test_its_links_lead_somewhere() -> None:
    pages = [cell for cell in committed() if cell["cell_type"] == "markdown"]
    words = "".join("".join(cell["source"]) for cell in pages)
    links = re.findall(r"\]\(([\w./-]+)\)", words)
    assert len(links) > 3
    for link in links:
        assert (TOUR.parent / link).is_file(), link


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages
def test_it_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In 5 seconds of a processor's time, and some 20 more with an empty cache."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("sklearn")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    notebook = nbformat.read(TOUR, 4)
    for cell in notebook.cells:
        cell["outputs"] = []
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=environment)
    seen = [text for text in texts(notebook.cells) if not text.startswith("fastdrop: ")]
    assert seen == texts(committed())
    assert any(_TIMED in str(cell.get("outputs")) for cell in notebook.cells)

"""The notebook under examples/ runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np

NOTEBOOK = Path(__file__).parents[2] / "examples" / "recording.ipynb"


def shown() -> list[Any]:
    """Run the cells in one namespace; what the last line of each shows, None where it shows nothing."""
    names: dict[str, Any] = {}
    values = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"]))
        last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
        exec(compile(body, str(NOTEBOOK), "exec"), names)
        shows = isinstance(last, ast.Expr)
        values.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names) if shows else None)
    return values


def test_notebook_runs_and_shows_the_exposed_image_sharper_than_the_captured_one() -> None:
    _, (start_us, end_us), both, instants, wide = shown()
    assert end_us > start_us
    pair = np.asarray(both).astype(float)
    assert pair.shape == (260, 2 * 346)
    captured, exposed = (np.abs(np.diff(half)).mean() for half in np.split(pair, 2, axis=1))
    assert exposed > 1.1 * captured
    assert np.asarray(instants).shape == (130, 5 * 173)
    assert np.asarray(wide).shape == (260, 346)


def test_notebook_holds_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]

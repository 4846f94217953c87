"""A growing file is a safetensors file once it is finished, and no file before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fourd.extraction import files
from fourd.extraction.files import GrowingFile, TensorPlan, read_metadata

PLANS = {
    "time_s": TensorPlan(torch.float64, (6,)),
    "features@0.5": TensorPlan(torch.bfloat16, (6, 2, 3)),
    "features@1.0": TensorPlan(torch.float16, (6, 2, 3)),
}


def rows(name: str, num_rows: int) -> torch.Tensor:
    """Make the first rows of a tensor."""
    plan = PLANS[name]
    return torch.arange(torch.Size(plan.shape).numel()).reshape(plan.shape)[:num_rows].to(plan.dtype)


def fill(file: GrowingFile, num_rows: int) -> None:
    """Append rows as they come: features in pieces and in turns, times at last."""
    for start in range(0, num_rows, 2):
        for name in ("features@0.5", "features@1.0"):
            file.append(name, rows(name, num_rows)[start : start + 2])
    file.append("time_s", rows("time_s", num_rows))


@pytest.mark.parametrize("num_rows", [6, 5, 1])
def test_what_is_appended_is_read_back_also_where_rows_are_missing(
    num_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "_CHUNK_BYTES", 5)
    path = tmp_path / "a" / "b.safetensors"
    file = GrowingFile(path, PLANS, 1000)
    fill(file, num_rows)
    assert not path.exists()
    file.finish({"key": "b", "note": "äöü"})
    assert [entry.name for entry in path.parent.iterdir()] == ["b.safetensors"]
    found = load_file(path)
    assert found.keys() == PLANS.keys()
    for name in PLANS:
        assert found[name].dtype == PLANS[name].dtype
        assert torch.equal(found[name], rows(name, num_rows))
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"key": "b", "note": "äöü"} == read_metadata(path)


def test_a_tensor_of_one_row_may_lose_its_first_axis(tmp_path: Path):
    file = GrowingFile(tmp_path / "a.safetensors", {"features": TensorPlan(torch.float32, (1, 4))}, 1000)
    file.append("features", torch.ones(1, 4))
    file.finish({}, frozenset({"features"}))
    assert load_file(file.path)["features"].shape == (4,)


@pytest.mark.parametrize("wrong", [torch.zeros(7), torch.zeros(1, 2), torch.zeros(1, dtype=torch.float16)])
def test_rows_that_were_not_planned_are_refused(wrong: torch.Tensor, tmp_path: Path):
    file = GrowingFile(tmp_path / "a.safetensors", {"x": TensorPlan(torch.float32, (6,))}, 1000)
    with pytest.raises(ValueError, match="x is planned as"):
        file.append("x", wrong)


def test_a_header_without_room_is_refused(tmp_path: Path):
    file = GrowingFile(tmp_path / "a.safetensors", {"x": TensorPlan(torch.float32, (6,))}, 100)
    with pytest.raises(ValueError, match="planned were 104"):
        file.finish({"long": "x" * 100})


def test_a_discarded_file_leaves_nothing(tmp_path: Path):
    file = GrowingFile(tmp_path / "a.safetensors", PLANS, 1000)
    file.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_whole_is_none(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(100)}, path, metadata={"key": "a"})
    whole = path.read_bytes()
    assert read_metadata(path) == {"key": "a"}
    for num_bytes in (0, 5, 20, 90, len(whole) - 1):
        path.write_bytes(whole[:num_bytes])
        assert read_metadata(path) is None
    for other in (whole + b"\0", b"\xff" * 400, b"[1, 2]".ljust(400)):
        path.write_bytes(other)
        assert read_metadata(path) is None
    save_file({"x": torch.zeros(100)}, path)
    assert read_metadata(path) is None

"""The ends of the matrix: the smallest size on one GPU, the largest on 64."""

import pyarrow.parquet as pq
import pytest

from fourd.planner import MatrixConfig, make_matrix


@pytest.mark.parametrize(("size", "gpus", "parameters"), [("S", 1, 23.97e6), ("j", 64, 21.51e9)])
def test_the_ends_of_the_matrix(size, gpus, parameters, tmp_path, monkeypatch):
    monkeypatch.setenv("FOURD_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "matrix.parquet"
    (row,) = make_matrix(MatrixConfig(sizes=(size,), gpus=(gpus,), out=out))
    assert row["parameters"] == pytest.approx(parameters, rel=0.001)
    state = 12 * row["parameters"] / min(gpus, 8)
    assert row["weights_bytes"] + row["moments_bytes"] == pytest.approx(state, rel=0.01)
    assert state < row["total_bytes"] < 141e9
    assert pq.read_table(out).to_pylist() == [row]
    assert f"| {size} | {gpus} |" in out.with_suffix(".md").read_text()


def test_unknown_sizes_are_refused():
    with pytest.raises(ValueError, match="--sizes Z: expected some of S B L H G e j"):
        MatrixConfig(sizes=("S", "Z"))

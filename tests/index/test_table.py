"""An index gives its rows by number, says what it is, and is never believed when it is damaged."""

from __future__ import annotations

import errno
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourd.index import table as tables
from fourd.index.table import RowTable, RowWriter, Selection

KIND = "test index 1"
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("length", pa.int32()),
        ("stamps", pa.large_list(pa.int64())),
    ]
)


def row(number: int, length: int | None = None) -> dict:
    stamps = np.arange(number % 5) * 512 if number % 7 else None
    return {"name": f"row {number}", "shard": f"shard {number // 10}", "length": length or number, "stamps": stamps}


def write(path: Path, rows: list[dict], **metadata: str) -> Path:
    with RowWriter(path, SCHEMA, KIND, **metadata) as writer:
        for each in rows:
            writer.write(each)
    return path


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "ROWS_PER_GROUP", 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.parquet", [row(number) for number in range(100)], place="here")


def same(found: dict, wanted: dict) -> bool:
    """Compare rows; no stamps are not the same as none at all."""
    is_none = [each["stamps"] is None for each in (found, wanted)]
    is_same = all(is_none) if any(is_none) else np.array_equal(found["stamps"], wanted["stamps"])
    return is_same and all(found[name] == wanted[name] for name in ("name", "shard", "length"))


def test_rows_come_by_number(path: Path):
    table = RowTable(path, KIND)
    assert (len(table), table.num_groups, table.metadata["place"]) == (100, 7, "here")
    for number in (0, 15, 16, 99, 3, 64, 98):
        assert same(table.row(number), row(number)), number
    for number in (-1, 100):
        with pytest.raises(IndexError, match=r"rows.parquet: row -?\d+, expected 0 to 99"):
            table.row(number)


def test_only_a_few_groups_are_kept(path: Path):
    table = RowTable(path, KIND)
    for number in range(100):
        table.row(number)
    assert len(table._groups) == 4


def test_an_empty_index_has_no_rows(tmp_path: Path):
    table = RowTable(write(tmp_path / "none.parquet", []), KIND)
    assert (len(table), len(Selection.at_least(table, {"length": 1}))) == (0, 0)


def test_many_rows_at_once_are_as_many_one_by_one(path: Path, tmp_path: Path):
    rows = [row(number) for number in range(100)]
    with RowWriter(tmp_path / "other.parquet", SCHEMA, KIND, place="here") as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    one, other = RowTable(path, KIND), RowTable(tmp_path / "other.parquet", KIND)
    assert all(same(one.row(number), other.row(number)) for number in range(100))
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("change", [{"name": "x"}, {"shard": "x"}, {"length": 7}, {"stamps": np.array([1])}])
def test_the_fingerprint_changes_with_every_column(path: Path, tmp_path: Path, change: dict):
    rows = [row(number) for number in range(100)]
    before = RowTable(path, KIND).fingerprint
    assert RowTable(write(tmp_path / "same.parquet", rows, place="here"), KIND).fingerprint == before
    assert RowTable(write(tmp_path / "told.parquet", rows, place="there"), KIND).fingerprint != before
    rows[50] |= change
    assert RowTable(write(tmp_path / "changed.parquet", rows, place="here"), KIND).fingerprint != before


def test_a_group_holds_only_its_own_texts_of_a_dictionary(tmp_path: Path):
    shards = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), [f"shard {n}" for n in range(10_000)])
    columns = [pa.array(["x"] * 64), shards, pa.array([1] * 64, pa.int32()), pa.array([None] * 64, SCHEMA.types[3])]
    with RowWriter(tmp_path / "rows.parquet", SCHEMA, KIND) as writer:
        writer.write_table(pa.Table.from_arrays(columns, schema=SCHEMA))
    assert (tmp_path / "rows.parquet").stat().st_size < 10_000
    assert RowTable(tmp_path / "rows.parquet", KIND).row(63)["shard"] == "shard 0"


def test_even_stamps_take_almost_nothing(tmp_path: Path):
    stamps = np.arange(100_000) * 512
    rows = [{"name": "film", "shard": "s", "length": 1, "stamps": stamps}]
    assert write(tmp_path / "rows.parquet", rows).stat().st_size < 0.02 * stamps.nbytes


def test_an_index_in_an_object_store_is_copied_once(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tables, "COPIES", str(tmp_path / "copies"))
    memory = fsspec.filesystem("memory")
    memory.put_file(str(path), "/bucket/corpus/rows.parquet")
    table = RowTable("memory://bucket/corpus/rows.parquet", KIND)
    assert table.folder == "memory://bucket/corpus"
    assert table.path.parent == tmp_path / "copies"
    before = table.path.stat().st_mtime_ns
    assert RowTable("memory://bucket/corpus/rows.parquet", KIND).path.stat().st_mtime_ns == before
    memory.rm("/bucket", recursive=True)
    other = pickle.loads(pickle.dumps(table))
    assert (other.folder, same(other.row(70), row(70))) == (table.folder, True)
    with pytest.raises(FileNotFoundError, match=r"memory://bucket/corpus/rows.parquet"):
        RowTable("memory://bucket/corpus/rows.parquet", KIND)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_local_index_is_read_where_it_lies(path: Path, scheme: str):
    table = RowTable(f"{scheme}{path}", KIND)
    assert (table.folder, table.path) == (str(path.parent), path)


# ----------------------------------------------------------------------------- writing


def test_a_writer_that_fails_leaves_what_was_there(path: Path):
    before = path.read_bytes()
    with pytest.raises(pa.ArrowInvalid):
        write(path, [*map(row, range(40)), row(40) | {"length": "long"}])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_writer_leaves_no_half_index(tmp_path: Path):
    program = (
        "import os, sys, pyarrow as pa\nfrom fourd.index.table import RowWriter\n"
        "with RowWriter(sys.argv[1], pa.schema([('n', pa.int64())]), 'k') as writer:\n"
        "    writer.write_table(pa.table({'n': range(100_000)}))\n    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path / "rows.parquet")], check=False).returncode == -9
    assert not (tmp_path / "rows.parquet").exists()


# ----------------------------------------------------------------------------- damage


def test_other_kinds_of_files_are_refused_by_name(path: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        RowTable(tmp_path / "nothing.parquet", KIND)
    with pytest.raises(ValueError, match=r"rows.parquet is 'test index 1': expected a 'test index 2'. Make it again"):
        RowTable(path, "test index 2")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "plain.parquet")
    with pytest.raises(ValueError, match=r"plain.parquet is 'no index of fourd': expected a 'test index 1'"):
        RowTable(tmp_path / "plain.parquet", KIND)
    told = pa.table({"a": [1]}).replace_schema_metadata({"kind": KIND})
    pq.write_table(told, tmp_path / "told.parquet")
    with pytest.raises(ValueError, match=r"told.parquet does not say what it holds: expected a field 'content'"):
        RowTable(tmp_path / "told.parquet", KIND)


def test_columns_that_are_missing_or_of_another_type_are_named(path: Path):
    RowTable(path, KIND, SCHEMA)
    with pytest.raises(ValueError, match=r"rows.parquet: column width is missing, expected int32. Copy it again"):
        RowTable(path, KIND, SCHEMA.append(pa.field("width", pa.int32())))
    with pytest.raises(ValueError, match=r"rows.parquet: column length is int32, expected string"):
        RowTable(path, KIND, pa.schema([("length", pa.string())]))


@pytest.mark.parametrize("num_bytes", [0, 3, 12, 0.3, 0.9, -1])
def test_a_file_that_was_cut_off_is_refused(path: Path, num_bytes: float):
    data = path.read_bytes()
    path.write_bytes(data[: int(num_bytes * len(data)) if 0 < num_bytes < 1 else int(num_bytes)])
    with pytest.raises(ValueError, match=r"rows.parquet is no Parquet file, or was cut off or damaged .*Copy it again"):
        RowTable(path, KIND)


def _read_if_whole(path: Path) -> list[dict] | None:
    """Read a row of every group; None where the file is refused as it should be."""
    try:
        table = RowTable(path, KIND)
        return [table.row(number) for number in range(0, 100, 16)]
    except ValueError:
        return None


def test_no_flipped_byte_changes_a_row(path: Path):
    data, wanted = path.read_bytes(), [row(number) for number in range(0, 100, 16)]
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    noticed = 0
    for place in [*range(4, footer, 97), len(data) - 1]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        found = _read_if_whole(path)
        noticed += found is None
        assert found is None or all(map(same, found, wanted)), place
    assert noticed > 10


def test_damage_is_told_with_the_file_and_the_way_out(path: Path):
    data = bytearray(path.read_bytes())
    data[200] ^= 0x10
    path.write_bytes(data)
    table = RowTable(path, KIND)
    with pytest.raises(ValueError, match=r"rows.parquet is .* damaged .*Copy it again, or make it again with `fourd"):
        table.row(0)
    assert same(table.row(99), row(99))


def test_a_disk_that_fails_is_not_called_damage(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    table = RowTable(path, KIND)
    monkeypatch.setattr(table, "_file", type("File", (), {"read_row_group": fail}))
    with pytest.raises(OSError, match="Input/output error"):
        table.row(0)


# ----------------------------------------------------------------------------- selections


def test_a_selection_numbers_the_rows_that_pass(path: Path):
    selection = Selection(RowTable(path, KIND), ["length"], lambda rows: rows["length"].to_numpy() % 3 == 1)
    assert [selection.row_number(number) for number in range(len(selection))] == list(range(1, 100, 3))
    with pytest.raises(IndexError, match="selected row 33, expected 0 to 32"):
        selection.row_number(len(selection))


@pytest.mark.parametrize(("least", "num_read"), [(1, 1), (2, 1), (40, 7), (1000, 7)])
def test_only_groups_of_which_the_file_does_not_say_enough_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int, num_read: int
):
    lengths = [1, *range(2, 17), *([40, 50] * 42)]
    if least == 40:
        lengths[16::16] = [39] * len(lengths[16::16])
    path = write(tmp_path / "rows.parquet", [row(number, length) for number, length in enumerate(lengths)])
    table = RowTable(path, KIND)
    read: list[int] = []
    columns_of = table.columns_of
    monkeypatch.setattr(table, "columns_of", lambda groups, names: read.extend(groups) or columns_of(groups, names))
    selection = Selection.at_least(table, {"length": least})
    wanted = [number for number, length in enumerate(lengths) if length >= least]
    assert [selection.row_number(number) for number in range(len(selection))] == wanted
    assert len(read) == (0 if least == 1 else num_read)


def test_a_missing_number_does_not_pass(tmp_path: Path):
    rows = [row(number, 5) | ({"length": None} if number == 3 else {}) for number in range(5)]
    selection = Selection.at_least(RowTable(write(tmp_path / "rows.parquet", rows), KIND), {"length": 5})
    assert [selection.row_number(number) for number in range(len(selection))] == [0, 1, 2, 4]


def _names(selection: Selection, numbers: range) -> list[str]:
    return [selection.table.row(selection.row_number(number))["name"] for number in numbers]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_other_processes_read_the_same_rows(path: Path, method: str):
    selection = Selection.at_least(RowTable(path, KIND), {"length": 50})
    wanted = _names(selection, range(50))
    assert wanted == [f"row {number}" for number in range(50, 100)]
    assert _names(pickle.loads(pickle.dumps(selection)), range(50)) == wanted
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(_names, [(selection, range(50))] * 4) == [wanted] * 4


def test_a_table_that_was_written_again_is_not_taken_for_the_one_that_was_sent(tmp_path: Path):
    path = tmp_path / "rows.parquet"
    schema = pa.schema([("number", pa.int64())])

    def write(numbers: range) -> None:
        with RowWriter(path, schema, "numbers") as writer:
            for number in numbers:
                writer.write({"number": number})

    write(range(5))
    sent = pickle.dumps(RowTable(path, "numbers"))
    assert pickle.loads(sent).row(2) == {"number": 2}
    write(range(1, 6))
    with pytest.raises(ValueError, match="was written again while it was in use: start again"):
        pickle.loads(sent)

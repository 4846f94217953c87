"""Whatever names files, each is found once, in order, with the reason where it cannot be a film."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fourd.index import scan
from fourd.index.build import build_index
from fourd.index.roots import moved
from fourd.index.scan import find_files


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"film")


def paths_of(files: scan.FoundFiles) -> list[str]:
    return [file.path for file in files]


def reasons_of(files: scan.FoundFiles) -> dict[str, str | None]:
    return {file.path: file.reason for file in files}


@pytest.fixture
def films(tmp_path: Path) -> Path:
    """Make a folder with films at three depths."""
    folder = tmp_path / "films"
    make(folder / "b.mp4", folder / "a" / "z.MKV", folder / "a" / "deep" / "er" / "c.webm", folder / "a-b.avi")
    return folder


@pytest.fixture
def bucket():
    """Give an object store in memory, emptied afterwards."""
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()


# ----------------------------------------------------------------------------- folders


def test_a_folder_is_searched_to_its_depth_in_the_order_of_paths(films: Path):
    files = find_files([str(films)])
    assert files.root == str(films)
    assert len(files) == 4
    assert paths_of(files) == ["a-b.avi", "a/deep/er/c.webm", "a/z.MKV", "b.mp4"]
    status = (films / "b.mp4").stat()
    assert list(files)[-1] == ("b.mp4", 4, str(status.st_mtime_ns), None)


def test_what_cannot_be_a_film_is_listed_and_has_no_version(films: Path):
    make(films / ".hidden.mp4", films / ".git" / "x.mp4", films / "notes.txt")
    (films / "link.mp4").symlink_to(films / "b.mp4")
    (films / "nowhere.mp4").symlink_to(films / "not there")
    (films / "up").symlink_to(films.parent)
    os.mkfifo(films / "pipe.mp4")
    make(Path(os.fsdecode(os.fsencode(films) + b"/\xff.mp4")))
    files = {file.path: file for file in find_files([str(films)])}
    odd = {path: file.reason for path, file in files.items() if file.reason}
    link = "symbolic link, which is not followed: set root to where it leads, or copy the film"
    assert odd == {
        "\\udcff.mp4": "its name is not valid UTF-8: rename it",
        "link.mp4": link,
        "notes.txt": "not a video file",
        "nowhere.mp4": link,
        "pipe.mp4": "not a regular file",
        "up": link,
    }
    assert len(files) == 4 + len(odd)
    assert all(bool(file.version) == (file.reason is None) for file in files.values())


def test_a_folder_that_may_not_be_read_is_listed_unless_it_was_named(films: Path, monkeypatch: pytest.MonkeyPatch):
    scandir = os.scandir

    def guarded(path):
        if path == str(films / "a"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert reasons_of(find_files([str(films)])) == {"a-b.avi": None, "a/": "folder: permission denied", "b.mp4": None}
    with pytest.raises(PermissionError):
        find_files([str(films / "a")])


def test_a_disk_that_fails_stops_the_search(films: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(path):
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(os, "scandir", broken)
    with pytest.raises(OSError, match="Input/output error"):
        find_files([str(films)])


def test_a_folder_a_thousand_deep_is_searched(tmp_path: Path):
    folders = [tmp_path / "/".join("d" * depth) for depth in range(1, 1101)]
    for folder in folders:
        folder.mkdir()
    film = folders[-1] / "x.mp4"
    film.touch()
    try:
        (found,) = find_files([str(tmp_path)])
    finally:  # what clears temporary folders cannot go so deep
        film.unlink()
        for folder in reversed(folders):
            folder.rmdir()
    assert found.path.count("/") == 1100


def test_names_of_any_kind_are_kept_as_they_are(tmp_path: Path):
    names = ["-rf.mp4", "a\nb.mp4", "c d'\".mp4", "[x].mp4", "é.mp4", "漢字.mp4", "\U0001f3a5.mp4"]
    make(*(tmp_path / name for name in names))
    assert paths_of(find_files([str(tmp_path)])) == sorted(names)
    assert paths_of(find_files([str(tmp_path / "[x].mp4")])) == ["[x].mp4"]


# ----------------------------------------------------------------------------- several sources


def test_files_that_are_named_twice_count_once(films: Path):
    (films.parent / "other").symlink_to(films)
    sources = [str(films), str(films / "b.mp4"), f"{films}/*/*.MKV", str(films / "a"), f"{films}/../films/./b.mp4"]
    linked = films.parent / "other" / "b.mp4"
    assert paths_of(find_files([*sources, str(linked)])) == paths_of(find_files([str(films)]))


def test_the_root_is_the_deepest_folder_that_holds_all(films: Path, tmp_path: Path):
    make(tmp_path / "more" / "d.mp4")
    assert find_files([str(films / "a")]).root == str(films / "a")
    assert find_files([str(films / "a" / "z.MKV"), str(films / "b.mp4")]).root == str(films)
    files = find_files([str(films / "a"), str(tmp_path / "more")])
    assert files.root == str(tmp_path)
    assert paths_of(files) == ["films/a/deep/er/c.webm", "films/a/z.MKV", "more/d.mp4"]


def test_folders_whose_names_begin_alike_are_not_one_below_the_other(tmp_path: Path):
    make(tmp_path / "set" / "a.mp4", tmp_path / "set2" / "b.mp4")
    files = find_files([str(tmp_path / "set"), str(tmp_path / "set2")])
    assert files.root == str(tmp_path)
    assert paths_of(files) == ["set/a.mp4", "set2/b.mp4"]


def test_patterns_take_what_matches(films: Path):
    assert paths_of(find_files([f"{films}/*.mp4"])) == ["b.mp4"]
    assert paths_of(find_files([f"{films}/**/*.*m*"])) == ["a/deep/er/c.webm", "b.mp4"]
    with pytest.raises(FileNotFoundError, match=r"nothing matches .*\*\.mov"):
        find_files([f"{films}/*.mov"])
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere: expected a folder, a film, a pattern, a list"):
        find_files([str(films / "nowhere")])


def test_other_endings_may_be_named(films: Path):
    make(films / "x.film")
    found = reasons_of(find_files([str(films)], (".FILM",)))
    assert found.pop("x.film") is None
    assert set(found.values()) == {"not a video file"}


# ----------------------------------------------------------------------------- lists


def test_a_list_names_files_from_its_own_folder(films: Path):
    text = "label,path\n1,a/z.MKV\n2,b.mp4\n\n3,b.mp4\n4,gone.mp4\n5,a/../../films/a-b.avi\n"
    (films / "list.csv").write_text(text, encoding="utf-8-sig")
    found = reasons_of(find_files([str(films / "list.csv")]))
    assert found == {"a-b.avi": None, "a/z.MKV": None, "b.mp4": None, "gone.mp4": "no such file"}


@pytest.mark.parametrize("header", ["", "path\n", "video\n"])
def test_a_list_of_one_column_may_name_it_or_not(header: str, films: Path):
    (films / "list.csv").write_text(header + "b.mp4\n" + str(films / "a" / "z.MKV") + "\n")
    assert reasons_of(find_files([str(films / "list.csv")])) == {"a/z.MKV": None, "b.mp4": None}


@pytest.mark.parametrize("columns", [["path", "label"], ["file"]])
def test_a_parquet_list_is_read(columns: list[str], films: Path):
    values = [["b.mp4", "a/z.MKV"], ["x", "y"]][: len(columns)]
    pq.write_table(pa.table(dict(zip(columns, values, strict=True))), films / "list.parquet")
    assert paths_of(find_files([str(films / "list.parquet")])) == ["a/z.MKV", "b.mp4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"name,label\nb.mp4,1\n", r"columns are name, label; expected one called `path`"),
        (b"path,label\n,1\n", "an entry names no file"),
        (b"path\n\xff.mp4\n", "no list in UTF-8"),
    ],
)
def test_a_list_that_is_none_is_refused(content: bytes, message: str, tmp_path: Path):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"list\.csv.*{message}"):
        find_files([str(tmp_path / "list.csv")])


def test_a_parquet_list_that_is_none_is_refused(tmp_path: Path):
    path = tmp_path / "list.parquet"
    path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"list\.parquet: no Parquet file"):
        find_files([str(path)])
    pq.write_table(pa.table({"path": [1, 2]}), path)
    with pytest.raises(ValueError, match="column 'path' is of type int64; expected text"):
        find_files([str(path)])


def test_a_name_with_a_zero_in_it_is_listed(tmp_path: Path):
    make(tmp_path / "b.mp4")
    pq.write_table(pa.table({"path": ["b.mp4", "a\0.mp4"]}), tmp_path / "list.parquet")
    assert list(reasons_of(find_files([str(tmp_path / "list.parquet")]))) == ["a\\x00.mp4", "b.mp4"]


# ----------------------------------------------------------------------------- object stores


def test_a_prefix_of_a_store_is_listed(bucket):
    for name in ("set/b.mp4", "set/a/c.webm", "set/.hidden/d.mp4", "set/.e.mp4", "set/notes.txt", "other/f.mp4"):
        bucket.pipe(f"/{name}", b"12345")
    files = find_files(["memory://set"])
    assert files.root == "memory:///set"
    assert reasons_of(files) == {"a/c.webm": None, "b.mp4": None, "notes.txt": "not a video file"}
    (found,) = (file for file in files if file.path == "b.mp4")
    assert found.num_bytes == 5
    before = found.version
    bucket.pipe("/set/b.mp4", b"54321")
    (found,) = (file for file in find_files(["memory://set"]) if file.path == "b.mp4")
    assert found.version != before != ""


def test_patterns_files_and_lists_of_a_store_are_taken(bucket, tmp_path: Path):
    for name in ("set/b.mp4", "set/c.webm", "set/deep/d.mp4"):
        bucket.pipe(f"/{name}", b"12345")
    assert paths_of(find_files(["memory://set/*.mp4"])) == ["b.mp4"]
    assert paths_of(find_files(["memory://set/c.webm"])) == ["c.webm"]
    (tmp_path / "list.csv").write_text("path\nmemory://set/b.mp4\nmemory://set/gone.mp4\nmemory://set/deep/d.mp4\n")
    found = reasons_of(find_files([str(tmp_path / "list.csv")]))
    assert found == {"b.mp4": None, "deep/d.mp4": None, "gone.mp4": "no such file"}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_files(["memory://nowhere"])


def test_local_and_remote_films_or_two_buckets_in_one_index_are_refused(bucket, films: Path):
    bucket.pipe("/one/b.mp4", b"12345")
    bucket.pipe("/two/b.mp4", b"12345")
    for sources in ([str(films), "memory://one"], ["memory://one", "memory://two"]):
        with pytest.raises(ValueError, match="expected films of one disk or one bucket"):
            find_files(sources)


def test_a_url_of_a_local_file_is_a_path(films: Path):
    assert find_files([f"file://{films}"]).root == str(films)


def test_a_store_whose_package_is_missing_says_so():
    with pytest.raises((ImportError, ValueError), match="nosuchscheme"):
        find_files(["nosuchscheme://bucket/films"])


# ----------------------------------------------------------------------------- from one root to another


def test_paths_move_with_their_root():
    assert moved("a/b.mp4", "/x/y", "/x") == "y/a/b.mp4"
    assert moved("y/a/b.mp4", "/x", "/x/y") == "a/b.mp4"
    assert moved("z/a/b.mp4", "/x", "/x/y") is None
    assert moved("a.mp4", "/", "/") == "a.mp4"
    assert moved("b/c.mp4", "s3://bucket/a", "s3://bucket") == "a/b/c.mp4"


def test_an_index_of_ours_is_not_taken_for_a_list(films: Path, tmp_path: Path):
    index = tmp_path / "index.parquet"
    build_index([str(films)], index, num_workers=1)
    with pytest.raises(ValueError, match=r"index\.parquet is a fourd film index .*, no list of files"):
        find_files([str(index)])

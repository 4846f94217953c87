"""Every file that is named or lies in a folder that is named becomes an input or is listed with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fourd.extraction.inputs import find_inputs


def touch(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def keys(found) -> list[str]:
    """List the keys of inputs or rows."""
    return [item.key for item in found]


def test_a_folder_is_searched_and_what_is_no_video_is_listed(tmp_path: Path):
    touch(tmp_path / "videos", "b.mp4", "a/b.MKV", "a/c/d.webm", "a/notes.txt", ".hidden.mp4", ".git/x.mp4", "p.png")
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "videos" / "b.mp4")
    (tmp_path / "videos" / "loop").symlink_to(tmp_path / "videos")
    os.mkfifo(tmp_path / "videos" / "pipe.mp4")
    sources, others = find_inputs([tmp_path / "videos"], tmp_path / "out")
    assert keys(sources) == ["a/b.MKV", "a/c/d.webm", "b.mp4"]
    assert sources[2].path == str(tmp_path / "videos" / "b.mp4")
    assert {entry.key: entry.status for entry in others} == {
        "a/notes.txt": "unreadable: not a video file",
        "link.mp4": "unreadable: symbolic link, which is not followed: name what it leads to",
        "loop": "unreadable: symbolic link, which is not followed: name what it leads to",
        "p.png": "unreadable: an image: name it itself to have it encoded",
        "pipe.mp4": "unreadable: not a regular file",
    }


def test_the_folder_of_features_is_not_searched(tmp_path: Path):
    touch(tmp_path, "a.mp4", "out/a.mp4.mp4", "out/index.parquet")
    sources, others = find_inputs([tmp_path], tmp_path / "out")
    assert keys(sources) == ["a.mp4"]
    assert others == []
    sources, others = find_inputs([tmp_path], tmp_path / "another")
    assert keys(sources) == ["a.mp4"]
    assert [(entry.key, entry.status) for entry in others] == [
        ("out", "unreadable: a folder of features, which is not searched")
    ]
    with pytest.raises(ValueError, match="is the folder of the videos"):
        find_inputs([tmp_path], tmp_path)


def test_keys_are_paths_from_the_folder_that_holds_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "x/clip.mp4", "y/clip.mp4", "y/clip.mkv", "y/z/clip.mp4")
    out = tmp_path / "out"
    x, y = tmp_path / "x", tmp_path / "y"
    assert keys(find_inputs([x / "clip.mp4"], out)[0]) == ["clip.mp4"]
    assert keys(find_inputs([x / "clip.mp4", y / "clip.mp4"], out)[0]) == ["x/clip.mp4", "y/clip.mp4"]
    assert keys(find_inputs([x, y / "z"], out)[0]) == ["x/clip.mp4", "y/z/clip.mp4"]
    assert keys(find_inputs([y], out)[0]) == ["clip.mkv", "clip.mp4", "z/clip.mp4"]
    monkeypatch.chdir(y)
    assert keys(find_inputs(["clip.mp4", "z/../clip.mp4", y], out)[0]) == ["clip.mkv", "clip.mp4", "z/clip.mp4"]


def test_a_file_named_itself_is_an_input_whatever_its_name(tmp_path: Path):
    touch(tmp_path, "film", "photo.JPG", ".hidden.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "film")
    names = ["film", "photo.JPG", ".hidden.mp4", "link.mp4"]
    sources, others = find_inputs([tmp_path / name for name in names], tmp_path / "out")
    assert keys(sources) == sorted(names)
    assert [source.is_image for source in sources] == [False, False, False, True]
    assert others == []


def test_a_name_too_long_for_features_is_cut_and_stays_unique(tmp_path: Path):
    names = ["ä" * 120 + end + ".mp4" for end in "ab"]
    touch(tmp_path, *names)
    sources, _ = find_inputs([tmp_path], tmp_path / "out")
    assert len({source.key for source in sources}) == 2
    assert all(len(source.key.encode()) <= 200 for source in sources)


def test_a_name_that_is_no_text_is_listed(tmp_path: Path):
    bad = os.fsencode(tmp_path) + b"/caf\xe9.mp4"
    open(bad, "w").close()
    touch(tmp_path, "good.mp4")
    sources, others = find_inputs([tmp_path], tmp_path / "out")
    assert keys(sources) == ["good.mp4"]
    assert [(entry.key, entry.status) for entry in others] == [
        ("caf\\udce9.mp4", "unreadable: its name is not valid UTF-8: rename it")
    ]


def test_a_name_without_a_file_is_refused_before_anything_is_done(tmp_path: Path):
    touch(tmp_path, "a.mp4")
    with pytest.raises(FileNotFoundError, match=r"there is no .*b\.mp4"):
        find_inputs([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "out")
    with pytest.raises(ValueError, match="no video is named"):
        find_inputs([], tmp_path / "out")


def test_a_folder_without_inputs_is_refused(tmp_path: Path):
    touch(tmp_path, "videos/notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"among 1 files.*notes.txt is unreadable: not a video file"):
        find_inputs([tmp_path / "videos"], tmp_path / "out")
    with pytest.raises(ValueError, match="the folder is empty"):
        find_inputs([tmp_path / "empty"], tmp_path / "out")

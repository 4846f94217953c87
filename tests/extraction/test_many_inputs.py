"""Many inputs go through one backbone, good and bad, long and short, and each gets its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fourd import video
from fourd.extraction import ExtractConfig, extract, read_index
from fourd.video import UnreadableVideo
from tests.extraction.small import assert_close, backbone, features_of, film, frames_of, spoil, stored
from tests.films import numbered_picture, truncate, write_sound

FULL = {"dtype": "float32"}


def test_batches_filled_across_films_give_what_each_alone_gives(tmp_path: Path):
    lengths = {"a": 3, "b": 17, "c": 1, "d": 9, "e": 4}
    for name, num_frames in lengths.items():
        film(tmp_path / "videos" / f"{name}.mp4", num_frames)
    (tmp_path / "videos" / "broken.mp4").write_text("no film")
    model, sizes = backbone(), []
    model.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    config = ExtractConfig(overlap=2, **FULL)
    extract(tmp_path / "videos", tmp_path / "out", model, config, batch_size=5)
    assert sizes[:-1] == [5] * (len(sizes) - 1), "a batch was not filled"
    for name in lengths:
        extract(tmp_path / "videos" / f"{name}.mp4", tmp_path / "alone", model, config, batch_size=1)
        together, alone = (stored(tmp_path / folder, f"{name}.mp4") for folder in ("out", "alone"))
        assert_close(together["features"], alone["features"])
        assert torch.equal(together["time_s"], alone["time_s"])


def test_films_of_one_name_in_two_folders_stay_apart(tmp_path: Path):
    paths, model = [film(tmp_path / name / "clip.mp4", n) for name, n in (("x", 5), ("y", 8))], backbone()
    entries = extract(paths, tmp_path / "out", model, ExtractConfig(**FULL))
    assert [entry.key for entry in entries] == ["x/clip.mp4", "y/clip.mp4"]
    for path, key in zip(paths, ("x/clip.mp4", "y/clip.mp4"), strict=True):
        assert_close(stored(tmp_path / "out", key)["features"], features_of(frames_of(path), model))


def test_every_input_has_a_row_and_a_bad_one_says_why(tmp_path: Path):
    videos, out, model = tmp_path / "videos", tmp_path / "out", backbone()
    film(videos / "good.mp4", 12)
    whole = film(tmp_path / "whole.mp4", 60, index_first=True)
    truncate(whole, videos / "cut.mp4", 0.5)
    write_sound(videos / "sound.mp4")
    (videos / "empty.mp4").touch()
    (videos / "notes.txt").touch()
    entries = extract(videos, out, model, ExtractConfig(**FULL))
    rows = {row.key: row for row in read_index(out / "index.parquet")}
    assert [entry.key for entry in entries] == ["cut.mp4", "empty.mp4", "good.mp4", "notes.txt", "sound.mp4"]
    assert rows == {entry.key: entry for entry in entries}
    assert {key: row.status for key, row in rows.items()} == {
        "cut.mp4": f"damaged: truncated or damaged: {rows['cut.mp4'].num_frames} of 60 frames intact",
        "empty.mp4": "unreadable: empty file (0 bytes)",
        "good.mp4": "done",
        "notes.txt": "unreadable: not a video file",
        "sound.mp4": "unreadable: no video stream (sound only)",
    }
    cut = rows["cut.mp4"]
    assert 0 < cut.num_frames < 60
    assert_close(stored(out, "cut.mp4")["features"], features_of(frames_of(whole)[: cut.num_frames], model))
    assert {path.name for path in out.glob("*.safetensors")} == {"cut.mp4.safetensors", "good.mp4.safetensors"}
    assert cut.num_bytes == (out / "cut.mp4.safetensors").stat().st_size
    assert cut.source_bytes == (videos / "cut.mp4").stat().st_size


def test_a_film_with_a_damaged_packet_gives_what_comes_before_it(tmp_path: Path):
    path, model = spoil(film(tmp_path / "a.mp4", 40), packet=20), backbone()
    assert video.probe(path).damage is None, "the packets alone do not show it"
    entries = [extract(path, tmp_path / f"out {n}", model, ExtractConfig(**FULL), num_threads=n)[0] for n in (1, 4)]
    assert 10 < entries[0].num_frames < 40
    assert entries[0] == entries[1]
    reason = f"frame {entries[0].num_frames} of 40 cannot be decoded: damaged, or changed since"
    assert entries[0].status == f"damaged: {reason}"
    expected = features_of(frames_of(path, range(entries[0].num_frames)), model)
    for n in (1, 4):
        assert_close(stored(tmp_path / f"out {n}", "a.mp4")["features"], expected)


@pytest.mark.parametrize("pooling", ["none", "space", "clip"])
def test_damage_that_only_decoding_shows_ends_the_features_there(
    pooling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, model = film(tmp_path / "a.mp4", 40), backbone()
    stream = video.stream

    def breaks_at_13(*args, **kwargs):
        for number, frame in enumerate(stream(*args, **kwargs)):
            if number == 13:
                raise UnreadableVideo(path, "frame 13 of 40 cannot be decoded")
            yield frame

    monkeypatch.setattr(video, "stream", breaks_at_13)
    config = ExtractConfig(depths=(0.5, 1.0), overlap=2, pooling=pooling, **FULL)
    (entry,) = extract(path, tmp_path / "out", model, config)
    assert (entry.status, entry.num_frames, entry.t) == ("damaged: frame 13 of 40 cannot be decoded", 13, 7)
    found, frames = stored(tmp_path / "out", "a.mp4"), frames_of(path)[:13]
    for depth in (0.5, 1.0):
        expected = features_of(frames, model, overlap=2, depth=depth)
        pooled = {"none": expected, "space": expected.mean((1, 2)), "clip": expected.mean((0, 1, 2))}[pooling]
        assert_close(found[f"features@{depth}"], pooled)
    assert found["frame_end_s"][-1].item() == pytest.approx(12 / 25)


def test_nothing_readable_is_an_error_and_has_rows(tmp_path: Path):
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(ValueError, match=r"none of 1 files can be read.*a\.mp4 is unreadable: not a media file"):
        extract(tmp_path / "a.mp4", tmp_path / "out", backbone())
    assert [row.key for row in read_index(tmp_path / "out" / "index.parquet")] == ["a.mp4"]


def test_memory_does_not_grow_with_the_length_of_a_film(tmp_path: Path):
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process has")
    model, seen = backbone(), []
    model.register_forward_pre_hook(lambda *_: seen.append(resident_bytes()))
    most = []
    for number, num_frames in enumerate((60, 60, 700)):  # the first one brings all that is loaded but once
        path = film(tmp_path / f"{number}.mp4", num_frames, size=(256, 192), picture=numbered_picture)
        seen.clear()
        extract(path, tmp_path / "out", model, ExtractConfig(overlap=2))
        most.append(max(seen))
    assert most[2] - most[1] < 640 * 256 * 192 * 3 / 4, "more than a quarter of the frames was held"

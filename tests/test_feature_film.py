"""The film of features: right components, the same colours to its end, and never half a file."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from fourd import feature_film
from fourd.feature_film import MAX_WAITING_FRAMES, FeatureColours, FeatureFilm, compose, principal_components

HEIGHT, WIDTH = 224, 224
GRID = (8, 14, 14)


def random_tokens(num: int, width: int, seed: int = 0) -> Tensor:
    """Draw tokens that vary more along some directions than along others, around a far-away mean."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(3, 0.1, min(num, width))
    tokens = torch.randn(num, len(scale), generator=generator) * scale
    return tokens @ torch.randn(len(scale), width, generator=generator) + 50


def stretch(seed: int = 0, num_frames: int = 16, grid: tuple[int, int, int] = GRID) -> tuple[Tensor, Tensor]:
    """Draw frames of one grey, and features that vary."""
    generator = torch.Generator().manual_seed(seed)
    frames = torch.full((num_frames, 3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    return frames, torch.randn(*grid, 32, generator=generator)


def halves(time: int = 1) -> Tensor:
    """Make features whose left and right halves differ, along one direction alone."""
    grid = torch.zeros(time, 14, 14, 32)
    grid[:, :, :7, 5], grid[:, :, 7:, 5] = 1.0, -1.0
    return grid


def read(path: Path) -> Tensor:
    with av.open(str(path)) as container:
        return torch.from_numpy(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ----------------------------------------------------------------------------- components


@pytest.mark.parametrize(("num", "width"), [(300, 40), (40, 300), (64, 64)])
def test_components_are_those_of_numpys_svd(num: int, width: int) -> None:
    tokens = random_tokens(num, width)
    found = principal_components(tokens).numpy()
    centred = tokens.double().numpy() - tokens.double().numpy().mean(axis=0)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:3]
    assert np.abs(np.abs((found * expected).sum(axis=1)) - 1).max() < 1e-9
    assert np.abs(found @ found.T - np.eye(3)).max() < 1e-9


def test_the_largest_entry_of_a_component_is_positive() -> None:
    tokens = random_tokens(200, 20)
    for found in (principal_components(tokens), principal_components(-tokens)):
        assert bool((found.gather(1, found.abs().argmax(dim=1, keepdim=True)) > 0).all())
    assert torch.equal(principal_components(tokens), principal_components(tokens))


def test_more_components_may_be_asked_for() -> None:
    tokens = random_tokens(100, 20)
    assert principal_components(tokens, 7).shape == (7, 20)
    assert torch.allclose(principal_components(tokens, 7)[:3], principal_components(tokens))


@pytest.mark.parametrize("width", [1, 2, 32])
def test_where_nothing_varies_a_component_is_zero(width: int) -> None:
    assert principal_components(torch.full((50, width), 3.7)).abs().max() == 0
    line = torch.linspace(-1, 1, 50)[:, None] * torch.ones(width)
    found = principal_components(line)
    assert found[0].norm() == pytest.approx(1)
    assert found[1:].abs().max() == 0


def test_one_token_has_no_components() -> None:
    assert principal_components(torch.ones(1, 8)).abs().max() == 0


# ----------------------------------------------------------------------------- colours


def test_the_first_component_is_red_and_what_does_not_vary_is_grey() -> None:
    colours = FeatureColours.fit(halves().flatten(0, 2)).paint(halves())
    left, right = colours[0, :, 3, 3].tolist(), colours[0, :, 3, 10].tolist()
    assert left == [255, 128, 128]
    assert right == [0, 128, 128]


def test_constant_features_are_grey() -> None:
    grid = torch.full((2, 14, 14, 32), 3.3)
    assert (FeatureColours.fit(grid.flatten(0, 2)).paint(grid) == 128).all()


def test_rounding_is_not_shown_as_if_it_were_a_feature() -> None:
    grid = torch.full((2, 14, 14, 32), 100.0) * (1 + 1e-7 * torch.randn(2, 14, 14, 32))
    assert (FeatureColours.fit(grid.flatten(0, 2)).paint(grid) == 128).all()


def test_a_few_wild_tokens_do_not_take_the_contrast_from_all_others() -> None:
    grid = torch.randn(4, 14, 14, 32)
    grid[0, 0, 0], grid[1, 2, 3] = 1000.0, -1000.0
    colours = FeatureColours.fit(grid.flatten(0, 2)).paint(grid).float()
    assert bool((colours.std(dim=(0, 2, 3)) > 40).all())


def test_many_tokens_are_fitted_in_part_with_nearly_the_same_components() -> None:
    tokens = random_tokens(20_000, 12)
    found, exact = FeatureColours.fit(tokens).components, principal_components(tokens).float()
    assert bool(((found * exact).sum(dim=1).abs() > 0.97).all())


def test_features_of_4096_numbers_are_fitted_within_seconds() -> None:
    colours = FeatureColours.fit(torch.randn(1568, 4096))
    assert colours.components.shape == (3, 4096)


# ----------------------------------------------------------------------------- pictures


def test_a_token_stands_where_its_pixels_are() -> None:
    colours = torch.zeros(1, 3, 14, 14, dtype=torch.uint8)
    colours[0, 1, 2, 5] = 255
    frames = torch.zeros(2, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    frames[:, 0, 2 * 16 : 3 * 16, 5 * 16 : 6 * 16] = 255
    picture = compose(frames, colours)[1]
    top = picture.shape[0] - HEIGHT
    red, green = picture[top:, :WIDTH, 0] == 255, picture[top:, WIDTH + feature_film.GUTTER_PX :, 1] == 255
    assert red.sum() == 256
    assert torch.equal(red, green)


def test_each_step_of_tokens_is_shown_for_its_frames() -> None:
    colours = (torch.arange(3) * 100).to(torch.uint8)[:, None, None, None].expand(3, 3, 2, 2)

    def shown(num_frames: int) -> list[int]:
        film = compose(torch.zeros(num_frames, 3, HEIGHT, WIDTH, dtype=torch.uint8), colours)
        return [int(picture[-10, -10, 0]) // 100 for picture in film]

    assert shown(6) == [0, 0, 1, 1, 2, 2]
    assert shown(5) == [0, 0, 1, 1, 2]
    assert shown(3) == [0, 1, 2]
    assert shown(7) == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("size", [(31, 45), (225, 301), (7, 5)])
def test_odd_and_small_sizes_become_even_and_large_enough(size: tuple[int, int]) -> None:
    film = compose(torch.zeros(2, 3, *size, dtype=torch.uint8), torch.zeros(1, 3, 2, 3, dtype=torch.uint8))
    assert film.shape[1] % 2 == film.shape[2] % 2 == 0
    assert min(film.shape[1:3]) > 100


# ----------------------------------------------------------------------------- films


def test_a_film_holds_every_frame_at_its_speed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a:b.mp4"
    with FeatureFilm(path, 12.5) as film:
        for seed in range(3):
            film.add(*stretch(seed))
        film.add(*stretch(3, num_frames=5, grid=(3, 14, 14)))
    with av.open(str(path.rename(tmp_path / "a.mp4"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(25, 2)
        assert sum(1 for _ in container.decode(stream)) == 53
    assert read(tmp_path / "a.mp4")[:, 100, 100].float().sub(100).abs().max() < 8
    assert files(tmp_path / "new") == []


def test_colours_stay_the_same_to_the_end(tmp_path: Path) -> None:
    frames = torch.full((16, 3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.add(frames, halves(8))
        film.add(frames, 0.5 * halves(8))  # less extent: scaled by itself it would look the same
    red = read(tmp_path / "a.mp4")[..., 0].float()
    left, right = red[:, 100, WIDTH + 50], red[:, 100, WIDTH + 180]
    assert left[8] - right[8] > 220
    assert 90 < left[-1] - right[-1] < 165


def test_colours_wait_for_enough_tokens(tmp_path: Path) -> None:
    """The first stretch alone does not vary; the film is coloured by all that waited together."""
    frames = torch.full((2, 3, HEIGHT, WIDTH), 100, dtype=torch.uint8)
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.add(frames, torch.zeros(1, 14, 14, 32))
        film.add(frames, halves())
        assert files(tmp_path) == []
        film.add(frames, halves())
    red = read(tmp_path / "a.mp4")[..., 0].float()
    assert len(red) == 6
    assert abs(red[0, 100, WIDTH + 50] - 128) < 10
    assert red[-1, 100, WIDTH + 50] > 230


def test_a_film_too_short_to_wait_for_tokens_is_written_all_the_same(tmp_path: Path) -> None:
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.add(*stretch(num_frames=1, grid=(1, 2, 2)))
    assert len(read(tmp_path / "a.mp4")) == 1


def test_coarse_features_do_not_keep_frames_waiting_for_ever(tmp_path: Path) -> None:
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        for seed in range(MAX_WAITING_FRAMES // 16):
            film.add(*stretch(seed, grid=(1, 1, 1)))
        assert files(tmp_path) == [".a.mp4.part"]


def test_constant_features_make_a_grey_film(tmp_path: Path) -> None:
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.add(stretch()[0], torch.zeros(*GRID, 32))
    assert (read(tmp_path / "a.mp4")[:, 100, WIDTH + 50].float() - 128).abs().max() < 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_features_come_in_any_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    frames, grid = stretch()
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.add(frames, grid.to(dtype))
    assert len(read(tmp_path / "a.mp4")) == 16


def test_without_libx264_the_film_is_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    with FeatureFilm(tmp_path / "a.mp4", 30000 / 1001) as film:
        film.add(*stretch())
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    assert len(read(tmp_path / "a.mp4")) == 16


def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    """After a few seconds of film, 400 frames more (130 MB as they are drawn) need little more memory."""
    command = [sys.executable, "-c", LONG_FILM, str(tmp_path / "a.mp4")]
    answer = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    early, late = (1024 * int(word) for word in answer.stdout.split())
    assert late - early < 40e6


LONG_FILM = """
import pathlib, resource, sys, torch
from fourd.feature_film import FeatureFilm
torch.set_num_threads(1)
with FeatureFilm(pathlib.Path(sys.argv[1]), 8.0) as film:
    for number in range(140):
        film.add(torch.full((4, 3, 112, 112), 100, dtype=torch.uint8), torch.randn(2, 14, 14, 32))
        if number in (40, 139):
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


# ----------------------------------------------------------------------------- half-written files and errors


def test_an_exception_leaves_no_half_written_film(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("an older film")

    def stopped_half_way() -> None:
        with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
            for seed in range(4):
                film.add(*stretch(seed))
            assert files(tmp_path) == [".a.mp4.part", "a.mp4"]
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        stopped_half_way()
    assert files(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_text() == "an older film"


def test_a_film_whose_end_cannot_be_written_is_taken_away(tmp_path: Path) -> None:
    film = FeatureFilm(tmp_path / "a.mp4", 8.0)
    film.add(*stretch())
    (tmp_path / "a.mp4").mkdir()  # where the film has to go
    with pytest.raises(OSError, match=r"a\.mp4"):
        film.close()
    assert files(tmp_path) == ["a.mp4"]


def test_discarding_takes_away_what_was_written(tmp_path: Path) -> None:
    film = FeatureFilm(tmp_path / "a.mp4", 8.0)
    film.add(*stretch())
    film.discard()
    film.discard()
    assert files(tmp_path) == []


def test_without_a_frame_nothing_is_written(tmp_path: Path) -> None:
    with FeatureFilm(tmp_path / "a.mp4", 8.0) as film:
        film.close()
    assert files(tmp_path) == []


def test_closing_twice_is_closing_once_and_a_closed_film_takes_no_more(tmp_path: Path) -> None:
    film = FeatureFilm(tmp_path / "a.mp4", 8.0)
    film.add(*stretch())
    film.close()
    film.close()
    with pytest.raises(ValueError, match=r"a\.mp4: the film is closed"):
        film.add(*stretch())


def test_another_size_is_refused(tmp_path: Path) -> None:
    film = FeatureFilm(tmp_path / "a.mp4", 8.0)
    frames, grid = stretch()
    film.add(frames, grid)
    for wrong in ((frames[..., :100], grid), (frames, grid[..., :10]), (frames, grid[:, :5])):
        with pytest.raises(ValueError, match="as before"):
            film.add(*wrong)


def test_nothing_and_what_is_not_finite_are_refused(tmp_path: Path) -> None:
    film = FeatureFilm(tmp_path / "a.mp4", 8.0)
    frames, grid = stretch()
    for wrong in ((frames[:0], grid), (frames, grid[:0])):
        with pytest.raises(ValueError, match="expected at least one"):
            film.add(*wrong)
    grid[3, 4, 5, 6] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        film.add(frames, grid)


@pytest.mark.parametrize(("name", "fps", "message"), [("a.webp", 8.0, r"expected '\.mp4'"), ("a.mp4", 0.0, "fps is 0")])
def test_what_cannot_be_a_film_is_refused(name: str, fps: float, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        FeatureFilm(tmp_path / name, fps)

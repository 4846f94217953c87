"""The bench of backbones: it is complete, it measures in turns, and it catches an adapter that is wrong."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from torch import Tensor

from fourd.backbones import dinov2, mean_pixel, siglip, video_vit, videomae, videomae_v2, vjepa2, windowed_vit
from fourd.backbones._own_code import own_code
from fourd.bench import BenchConfig, Row, backbones, bench_backbones, markdown, references, subjects, terminal_table
from fourd.bench.backbones import build, golden_error, random_clips, relative_error, require_right, time_in_turns
from fourd.bench.table import ARRAYS, OWN_CODE, SCHEMA
from fourd.cli import bench as command
from fourd.types import Backbone, ClipShape
from tests.contracts.discovery import find_plugins

ROOT = Path(__file__).parents[1]
PLUGINS = [name.rpartition(".")[2] for name in find_plugins("fourd.backbones")]
ALONE = ("mean_pixel", "video_vit", "videomae_v2", "windowed_vit")  # no code of others is run beside these
RIVALS = [name for name in PLUGINS if name not in ALONE]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench") / "new" / "backbones.parquet"


@pytest.fixture(scope="module")
def rows(path: Path) -> list[Row]:
    return bench_backbones(BenchConfig(tiny=True, batches=(1, 3), max_runs=1, out=path), "fourd bench backbones --tiny")


def tiny(name: str) -> Backbone:
    config = importlib.import_module(f"fourd.backbones.{name}").tiny()
    return build(config, None, seed=0)


def clips(backbone: Backbone, frames: int | None = None) -> Tensor:
    native = backbone.native_input
    return random_clips(2, ClipShape(frames or native.num_frames or 3, *native.size), seed=0)


def some_row(**changes: object) -> Row:
    row = Row(
        **{"backbone": "dinov2", "size": "base", "parameters": 86_580_480, "native_frames": None, "frames": 16},
        **{"height": 224, "width": 224, "t": 16, "h": 16, "w": 16, "D": 768, "source": "dinov2-base (x)"},
        **{"golden_error": 0.0, "golden_against": OWN_CODE, "batch": 1, "ours_clips_per_s": 2.0},
        **{"own_clips_per_s": 1.0, "ratio": 2.0, "runs": 3, "machine": "a machine", "torch": "2", "transformers": "5"},
        **{"threads": 1, "commit": "abc", "seed": 0, "command": "fourd bench"},
    )
    return replace(row, **changes)


# ----------------------------------------------------------------------------- the table is complete


def test_every_public_backbone_has_a_row_for_each_batch_size(rows: list[Row]) -> None:
    assert len(PLUGINS) >= 9
    assert [(row.backbone, row.batch) for row in rows] == [(name, batch) for name in PLUGINS for batch in (1, 3)]


def test_every_golden_error_is_small_and_only_the_floor_has_none(rows: list[Row]) -> None:
    assert {row.backbone for row in rows if row.golden_error is None} == {"mean_pixel"}
    assert max(row.golden_error for row in rows if row.golden_error is not None) < 1e-5
    against = {row.backbone: row.golden_against for row in rows}
    assert {name for name, what in against.items() if what == OWN_CODE} == set(RIVALS)
    assert {name for name, what in against.items() if what == ARRAYS} == {"video_vit", "videomae_v2", "windowed_vit"}
    require_right(rows)


def test_every_rival_has_the_speed_of_its_own_code_beside_ours(rows: list[Row]) -> None:
    for row in rows:
        assert row.ours_clips_per_s > 0
        assert row.runs == 1
        if row.backbone in ALONE:
            assert row.own_clips_per_s is row.ratio is None
        else:
            assert row.ratio == pytest.approx(row.ours_clips_per_s / row.own_clips_per_s)


def test_a_row_says_what_went_in_and_what_came_out(rows: list[Row]) -> None:
    for row in rows:
        backbone = tiny(row.backbone)
        assert (row.height, row.width) == backbone.native_input.size
        assert row.frames == (backbone.native_input.num_frames or 16)
        (features,) = backbone(random_clips(1, ClipShape(row.frames, row.height, row.width), seed=0), (1.0,))
        assert tuple(features.grid.shape) == (1, row.t, row.h, row.w, row.D)
        assert row.parameters == sum(parameter.numel() for parameter in backbone.parameters())


def test_rows_go_into_a_file_and_come_back(rows: list[Row], path: Path) -> None:
    table = pq.read_table(path)
    assert table.schema == SCHEMA
    assert [Row(**values) for values in table.to_pylist()] == rows
    assert {(row.command, row.threads, row.torch) for row in rows} == {
        ("fourd bench backbones --tiny", 1, torch.__version__)
    }
    assert sorted(file.name for file in path.parent.iterdir()) == ["backbones.md", "backbones.parquet"]


def test_the_table_in_markdown_has_a_line_for_every_backbone(rows: list[Row], path: Path) -> None:
    text = path.with_suffix(".md").read_text()
    assert text == markdown(rows)
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [line[0].removeprefix("| ") for line in lines[2:]] == [f"{name} tiny" for name in PLUGINS]
    assert {len(line) for line in lines} == {5 + 2 * 4 + 1}
    for why in ("4DS is JAX", "mean_pixel is our own floor", "--videomae-v2 PATH"):
        assert text.count(why) == 1


def test_the_table_on_the_screen_names_every_backbone(rows: list[Row]) -> None:
    console = Console(width=40, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 -- the console keeps it
    terminal_table(rows, console)
    shown = console.export_text()
    assert all(f"{name} tiny" in shown for name in PLUGINS)
    assert "fourd bench backbones --tiny" in " ".join(shown.split())


def test_a_table_says_what_is_not_as_the_backbone_has_it_and_where_weights_are() -> None:
    text = markdown([some_row(native_frames=64, source="a (b); c (d)"), some_row(batch=8, ours_clips_per_s=123.4)])
    assert "| dinov2 base | 86.6M | 16 (native 64) x 224 x 224 | 16 x 16 x 16, 768 | 0.0e+00 |" in text
    assert "| 2 | 1 | 2.00 | 3 | 123 | 1 | 2.00 | 3 | a (b); c (d) |" in text


def test_a_batch_size_that_was_not_measured_is_a_dash() -> None:
    text = markdown([some_row(), some_row(batch=8), some_row(size="large")])
    assert "| 2 | 1 | 2.00 | 3 | - | - | - | - |" in text


# ----------------------------------------------------------------------------- a wrong adapter is caught


def weights_that_matter(backbone: Backbone) -> dict[str, Tensor]:
    """Pick one weight of each kind: of the first block, of the last, and of the final norm."""
    blocks = backbone.blocks
    named = {"first": next(blocks[0].parameters()), "last": next(blocks[-1].parameters())}
    return named | {"norm": backbone.final_norm.weight, "norm bias": backbone.final_norm.bias}


@pytest.mark.parametrize("name", RIVALS)
def test_one_wrong_weight_on_one_side_is_seen(name: str) -> None:
    backbone = tiny(name)
    own, video = own_code(backbone), clips(backbone)
    assert golden_error(backbone, own, video) < 1e-5
    for which, weight in weights_that_matter(backbone).items():
        kept = weight.detach().clone()
        with torch.no_grad():
            weight.view(-1)[0] += 1
        assert golden_error(backbone, own, video) > 1e-3, which
        with torch.no_grad():
            weight.copy_(kept)
    assert golden_error(backbone, own, video) < 1e-5


@pytest.mark.parametrize("name", RIVALS)
def test_no_weight_is_neutral_or_shared_with_the_own_code(name: str) -> None:
    backbone = tiny(name)
    for parameter in backbone.parameters():
        assert (parameter - parameter.round()).abs().mean() > 1e-3
    own, video = own_code(backbone), clips(backbone)
    with torch.inference_mode():
        before = own(backbone.pixels(video))
        for parameter in backbone.parameters():
            parameter.zero_()
        assert torch.equal(own(backbone.pixels(video)), before)


def test_missing_biases_are_seen() -> None:
    """An earlier version of `transformers` lost those of queries and values, which then were 0."""
    backbone = tiny("videomae")
    own, video = own_code(backbone), clips(backbone)
    biases = [p for name, p in backbone.blocks.named_parameters() if re.search(r"(query|value)\.bias$", name)]
    assert len(biases) == 2 * len(backbone.blocks)
    with torch.no_grad():
        for bias in biases:
            bias.zero_()
    assert golden_error(backbone, own, video) > 1e-3


def test_the_command_fails_after_it_has_shown_a_wrong_adapter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_code(backbone: Backbone, checkout: Path | None) -> Callable[[Tensor], Tensor]:
        right = own_code(backbone, checkout)
        return lambda pixels: right(pixels) * 1.001

    monkeypatch.setattr(backbones, "own_code", other_code)
    out = tmp_path / "rows.parquet"
    with pytest.raises(ValueError, match=r"dinov2:tiny \(.*e-03\); mend the adapter"):
        command.run(
            ["backbones", "--tiny", "--backbones", "dinov2", "--batches", "1", "--max-runs", "1", "--out", str(out)]
        )
    assert "WRONG" in capsys.readouterr().out
    assert "WRONG" in out.with_suffix(".md").read_text()
    assert pq.read_table(out)["golden_error"][0].as_py() > 1e-4


def test_an_error_that_is_no_number_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"dinov2:base \(nan\)"):
        require_right([some_row(golden_error=float("nan"))])


def test_a_constant_output_proves_nothing() -> None:
    with pytest.raises(ValueError, match="expected some variation"):
        relative_error(torch.ones(3), torch.ones(3))


# ----------------------------------------------------------------------------- own code


@pytest.mark.parametrize("name", ["dinov2", "dinov3", "siglip", "videoprism", "vjepa2"])
def test_own_code_is_met_at_other_lengths(name: str) -> None:
    config = importlib.import_module(f"fourd.backbones.{name}").tiny()
    backbone = build(config, 8, seed=0)
    assert golden_error(backbone, own_code(backbone), clips(backbone, frames=8)) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        dinov2.with_registers(dinov2.tiny()),
        replace(videomae.tiny(), settings=(*videomae.tiny().settings, ("use_mean_pooling", True))),
        siglip.siglip2(siglip.tiny()),
    ],
    ids=["registers", "finetuned", "siglip2"],
)
def test_own_code_is_met_by_the_other_kinds_of_a_rival(config: object) -> None:
    backbone = build(config, None, seed=0)
    assert golden_error(backbone, own_code(backbone), clips(backbone)) < 1e-5


def test_own_code_that_takes_one_length_alone_says_so() -> None:
    backbone = build(videomae.tiny(), 8, seed=0)
    with pytest.raises(ValueError, match="8 frames; it takes 4 alone"):
        golden_error(backbone, own_code(backbone), clips(backbone, frames=8))


@pytest.mark.parametrize("module", [video_vit, mean_pixel, videomae_v2, windowed_vit])
def test_there_is_no_own_code_to_be_run_for_these(module: object) -> None:
    assert own_code(module.tiny().build()) is None


# What the bench takes from a checkout of VideoMAE v2: the same names, arrays and order of computing, in our words.
STAND_IN = """
import torch
from torch import nn
from timm.models.layers import drop_path, to_2tuple, trunc_normal_
from timm.models.registry import register_model

class Attention(nn.Module):
    def __init__(self, width, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        parts = (q + self.q_bias, k, v + self.v_bias)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))

class MLP(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))

class Block(nn.Module):
    def __init__(self, width, num_heads, hidden, norm):
        super().__init__()
        self.norm1, self.attn = norm(width), Attention(width, num_heads)
        self.norm2, self.mlp = norm(width), MLP(width, hidden)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))

class PatchEmbed(nn.Module):
    def __init__(self, width, patch):
        super().__init__()
        self.proj = nn.Conv3d(3, width, patch, patch)

@register_model
class VisionTransformer(nn.Module):
    def __init__(self, img_size, patch_size, tubelet_size, all_frames, embed_dim, depth, num_heads, mlp_ratio, qkv_bias,
                 norm_layer, num_classes):
        super().__init__()
        assert to_2tuple(3) == (3, 3) and qkv_bias
        self.patch_embed = PatchEmbed(embed_dim, (tubelet_size, patch_size, patch_size))
        count = all_frames // tubelet_size * (img_size // patch_size) ** 2
        angle = torch.arange(count)[:, None] / 10000 ** (2 * (torch.arange(embed_dim) // 2) / embed_dim)
        even = torch.arange(embed_dim) % 2 == 0
        self.pos_embed = torch.where(even, angle.sin(), angle.cos())
        hidden = int(embed_dim * mlp_ratio)
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads, hidden, norm_layer) for _ in range(depth)])
        self.fc_norm, self.head = norm_layer(embed_dim), nn.Linear(embed_dim, num_classes)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.fc_norm(x.mean(1)))
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "modeling_finetune.py").write_text(STAND_IN)
    return tmp_path


def test_videomae_v2_is_compared_with_the_code_of_a_checkout(checkout: Path) -> None:
    backbone = tiny("videomae_v2")
    own, video = own_code(backbone, checkout), clips(backbone)
    assert golden_error(backbone, own, video) < 1e-5
    with torch.no_grad():
        backbone.blocks[1].attention.value.bias[0] += 1
    assert golden_error(backbone, own, video) > 1e-3
    assert "timm" not in sys.modules or hasattr(sys.modules["timm"], "__version__")


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"modeling_finetune\.py: no such file"):
        own_code(tiny("videomae_v2"), tmp_path)


# ----------------------------------------------------------------------------- arrays of public code


@pytest.mark.parametrize("name", ["video_vit", "videomae_v2", "windowed_vit"])
def test_arrays_of_the_public_code_are_compared(name: str) -> None:
    found, expected = references.compare(name)
    assert found.shape == expected.shape
    assert relative_error(found, expected) < 1e-5
    assert relative_error(found.roll(1, dims=1), expected) > 0.1


def test_without_arrays_there_is_nothing_to_compare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert references.compare("dinov2") is None
    monkeypatch.setattr(references, "GOLDEN", tmp_path / "tests" / "golden")
    assert references.compare("video_vit") is None


# ----------------------------------------------------------------------------- which backbones


def test_by_default_every_backbone_is_taken_at_its_base_size_or_else_its_large_one() -> None:
    chosen = subjects.choose((), tiny=False)
    assert [subject.backbone for subject in chosen] == PLUGINS
    assert {subject.size for subject in chosen if subject.backbone != "vjepa2"} == {"base"}
    (vjepa,) = (subject for subject in chosen if subject.backbone == "vjepa2")
    assert (vjepa.size, vjepa.config) == ("large", vjepa2.large())


def test_a_size_can_be_named() -> None:
    (named, default) = subjects.choose(("dinov2:giant", "mean_pixel"), tiny=True)
    assert (str(named), named.config) == ("dinov2:giant", dinov2.giant())
    assert str(default) == "mean_pixel:tiny"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("dinov9", "there is no 'dinov9'; expected some of dinov2, dinov3"),
        ("_transformers", "there is no '_transformers'"),
        ("vjepa2:base", "no size 'base' of \\['giant', 'huge', 'large', 'tiny'\\]"),
        ("dinov2:with_registers", "no size 'with_registers'"),
        ("dinov2:build_model", "no size 'build_model'"),
    ],
)
def test_what_is_not_there_is_refused(asked: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        subjects.choose((asked,), tiny=False)


def test_the_source_of_weights_names_what_is_published_at_that_size() -> None:
    asked = ("dinov2:base", "vjepa2:large", "video_vit:base", "video_vit:size_e", "video_vit:large", "mean_pixel")
    sources = {str(subject): subject.source for subject in subjects.choose(asked, tiny=False)}
    assert sources["dinov2:base"].startswith("dinov2-base (facebook/dinov2-base); dinov2-reg-base (")
    assert "giant" not in sources["dinov2:base"]
    assert sources["vjepa2:large"].startswith("vjepa2-vitl (facebook/vjepa2-vitl-fpc64-256)")
    assert sources["video_vit:base"].startswith("4ds-b-dist-e (scaling4d_dist_b.npz)")
    assert sources["video_vit:size_e"] == "4ds-e (scaling4d_e.npz)"
    assert sources["video_vit:large"] == sources["mean_pixel:base"] == "none"


def test_another_number_of_frames_stands_in_the_row() -> None:
    row, *_ = bench_backbones(BenchConfig(("vjepa2",), tiny=True, batches=(1,), frames=8, max_runs=1))
    assert (row.frames, row.native_frames, row.t) == (8, 4, 4)
    assert row.golden_error < 1e-5


# ----------------------------------------------------------------------------- timing


class Clock:
    """Go on only when a side runs, and keep the order in which they did."""

    def __init__(self) -> None:
        self.now, self.ran = 0.0, ""

    def side(self, name: str, *seconds: float) -> Callable[[], None]:
        rest = list(seconds)

        def run() -> None:
            self.now += rest.pop(0) if len(rest) > 1 else rest[0]
            self.ran += name

        return run

    def __call__(self) -> float:
        return self.now


def test_sides_run_in_turns_and_the_first_round_warms_up() -> None:
    clock = Clock()
    sides = [clock.side("a", 9.0, 1.0, 5.0, 2.0), clock.side("b", 9.0, 4.0, 4.0, 4.0)]
    timed = time_in_turns(sides, max_seconds=1000.0, max_runs=3, clock=clock)
    assert clock.ran == "ab" + "ab" + "ba" + "ab"
    assert timed.seconds == (2.0, 4.0)
    assert timed.runs == 3


def test_a_round_that_takes_too_long_is_the_only_one() -> None:
    clock = Clock()
    timed = time_in_turns([clock.side("a", 30.0), clock.side("b", 31.0)], max_seconds=60.0, max_runs=5, clock=clock)
    assert clock.ran == "ab"
    assert timed == ((30.0, 31.0), 1)


def test_rounds_end_before_the_time_is_over_but_one_is_timed_always() -> None:
    clock = Clock()
    assert time_in_turns([clock.side("a", 20.0)], max_seconds=60.0, max_runs=9, clock=clock).runs == 3
    assert time_in_turns([clock.side("a", 59.0)], max_seconds=60.0, max_runs=9, clock=clock).runs == 1


# ----------------------------------------------------------------------------- files and the command


def test_what_is_measured_is_on_disk_before_the_next_backbone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(backbone: Backbone, checkout: Path | None) -> None:
        if isinstance(backbone, dinov2.DINOv2):
            raise RuntimeError("stopped")

    monkeypatch.setattr(backbones, "own_code", broken)
    out = tmp_path / "rows.parquet"
    with pytest.raises(RuntimeError, match="stopped"):
        bench_backbones(BenchConfig(("mean_pixel", "dinov2"), tiny=True, batches=(1,), max_runs=1, out=out))
    assert pq.read_table(out)["backbone"].to_pylist() == ["mean_pixel"]
    assert "| mean_pixel tiny |" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": ()}, "batches are"),
        ({"batches": (0,)}, "batches are"),
        ({"batches": (2, 2)}, "each once"),
        ({"max_runs": 0}, "max_runs is 0"),
        ({"frames": -1}, "frames -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BenchConfig(), **changes)


def test_a_file_of_another_kind_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows\.csv: found the ending '\.csv', expected '\.parquet'"):
        bench_backbones(BenchConfig(("mean_pixel",), out=tmp_path / "rows.csv"))


@pytest.mark.parametrize("arguments", [["training"], ["--tiny"]])
def test_the_command_wants_to_know_what_to_measure(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"there is no bench '.*'; expected one of pretraining, backbones"):
        command.run(arguments)


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_the_command_lists_what_it_can_measure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command.run(arguments)
    said = capsys.readouterr().out
    assert "pretraining" in said
    assert "backbones" in said


def test_the_command_as_a_user_runs_it(tmp_path: Path) -> None:
    words = [
        "bench",
        "backbones",
        "--tiny",
        "--backbones",
        "mean_pixel",
        "video_vit",
        "--max-runs",
        "1",
        "--out",
        "rows.parquet",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "fourd", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "video_vit tiny" in result.stdout
    assert "rows: rows.parquet\ntable: rows.md" in result.stdout
    assert "bench: 4/4" in result.stderr
    assert set(pq.read_table(tmp_path / "rows.parquet")["command"].to_pylist()) == {f"fourd {' '.join(words)}"}

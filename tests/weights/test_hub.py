"""Sharing: what is saved comes back to the bit, here and through the Hub; what does not fit is named."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fourd
from fourd import provenance
from fourd.backbones import mean_pixel, video_vit
from fourd.backbones.video_vit import VideoViT, VideoViTConfig
from fourd.depth_model import DepthModelConfig
from fourd.readout import ReadoutSize
from fourd.tasks.depth import DepthConfig
from fourd.types import Config
from fourd.weights import hub, snapshot
from fourd.weights.files import sha256
from fourd.weights.hub import from_pretrained, push_to_hub, save_pretrained

WIDE = replace(video_vit.tiny(), width=48)


def filled(config: Config | None = None, seed: int = 0) -> nn.Module:
    model = (config or video_vit.tiny()).build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return model.eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


def files_of(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@dataclass(frozen=True)
class LineConfig(Config[nn.Module]):
    """Describe a module as a lab outside of fourd may have it; `fault` says what is wrong with it."""

    fault: str = ""
    more: object = ()

    def build(self) -> nn.Module:
        return Line(self)


class Line(nn.Linear):
    """Be one layer."""

    def __init__(self, config: LineConfig) -> None:
        super().__init__(4, 4)
        self.config = config
        if config.fault == "a hidden buffer":
            self.register_buffer("table", torch.zeros(2), persistent=False)
        if config.fault == "shared memory":
            self.twice = self.weight


# ----------------------------------------------------------------------------- there and back


def test_a_model_comes_back_to_the_bit_with_its_config(tmp_path):
    model = filled()
    assert save_pretrained(model, tmp_path / "a/model") == tmp_path / "a/model"
    assert files_of(tmp_path / "a/model") == {"config.json", "model.safetensors", "README.md"}
    assert files_of(tmp_path / "a") == {"model"}
    loaded = from_pretrained(tmp_path / "a/model")
    assert isinstance(loaded, VideoViT)
    assert loaded.config == model.config
    assert not loaded.training
    assert same(loaded, model)
    video = torch.rand(1, 4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(video, (1.0,))[0].grid, model(video, (1.0,))[0].grid)


def test_fourd_load_takes_the_folder_too(tmp_path):
    model = filled()
    fourd.save_pretrained(model, tmp_path / "model")
    assert same(fourd.load(tmp_path / "model"), model)
    assert same(fourd.from_pretrained(os.fspath(tmp_path / "model")), model)


def test_a_depth_model_comes_back_whole_or_as_its_backbone(tmp_path):
    readout = DepthConfig(size=ReadoutSize(32, 2, 4), output_patch=(2, 8, 8))
    model = filled(DepthModelConfig(video_vit.tiny(), readout, 0.5))
    save_pretrained(model, tmp_path / "model")
    assert same(from_pretrained(tmp_path / "model"), model)
    assert same(fourd.load_depth(tmp_path / "model"), model)
    assert same(fourd.load(tmp_path / "model"), model.backbone)


def test_shards_come_back_too(tmp_path):
    model = filled()
    save_pretrained(model, tmp_path / "model", max_shard_size="30KB")
    shards = sorted((tmp_path / "model").glob("model-*-of-*.safetensors"))
    assert len(shards) > 3
    assert "model.safetensors.index.json" in files_of(tmp_path / "model")
    assert same(from_pretrained(tmp_path / "model"), model)
    shards[1].unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of"):
        from_pretrained(tmp_path / "model")


def test_precision_is_kept_or_changed_on_request(tmp_path):
    save_pretrained(filled(), tmp_path / "exact")
    half = from_pretrained(tmp_path / "exact", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    save_pretrained(half, tmp_path / "half")
    assert same(from_pretrained(tmp_path / "half"), half)


def test_native_size_is_kept_or_changed_on_request(tmp_path):
    save_pretrained(filled(replace(video_vit.tiny(), native_size=False)), tmp_path / "free")
    assert from_pretrained(tmp_path / "free").config.native_size is False
    fixed = from_pretrained(tmp_path / "free", native_size=True)
    assert fixed.config == video_vit.tiny()
    save_pretrained(Line(LineConfig()), tmp_path / "line")
    with pytest.raises(ValueError, match="holds a LineConfig: native_size is for backbones alone"):
        from_pretrained(tmp_path / "line", native_size=False)


def test_what_is_loaded_can_be_trained_without_touching_the_files(tmp_path):
    folder = save_pretrained(filled(), tmp_path / "model")
    before = sha256(folder / "model.safetensors")
    loaded = from_pretrained(folder)
    with torch.no_grad():
        for parameter in loaded.parameters():
            assert parameter.requires_grad
            assert not parameter.is_meta
            parameter.zero_()
    assert sha256(folder / "model.safetensors") == before


def test_the_same_model_gives_the_same_bytes_readable_by_all(tmp_path):
    one, other = (save_pretrained(filled(), tmp_path / name) for name in ("one", "other"))
    (tmp_path / "plain").touch()
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
        assert (one / name).stat().st_mode == (tmp_path / "plain").stat().st_mode


# ----------------------------------------------------------------------------- where it is written


def test_an_earlier_model_is_replaced_without_a_rest(tmp_path):
    save_pretrained(filled(), tmp_path / "model", max_shard_size="30KB")
    second = filled(WIDE)
    save_pretrained(second, tmp_path / "model")
    assert files_of(tmp_path / "model") == {"config.json", "model.safetensors", "README.md"}
    assert files_of(tmp_path) == {"model"}
    assert same(from_pretrained(tmp_path / "model"), second)


@pytest.mark.parametrize("name", ["notes.txt", "config.json"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, name):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / name).write_text('{"model_type": "theirs"}')
    with pytest.raises(FileExistsError, match=rf"holds {name}, which save_pretrained did not write"):
        save_pretrained(filled(), tmp_path / "model")
    assert files_of(tmp_path / "model") == {name}


def test_a_file_somebody_added_to_ours_is_not_lost(tmp_path):
    save_pretrained(filled(), tmp_path / "model")
    (tmp_path / "model/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which"):
        save_pretrained(filled(), tmp_path / "model")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model").touch()
    with pytest.raises(FileExistsError, match="is a file: name a folder"):
        save_pretrained(filled(), tmp_path / "model")


def test_a_save_that_fails_leaves_the_old_model_and_nothing_else(tmp_path, monkeypatch):
    first = filled()
    save_pretrained(first, tmp_path / "model")

    def run_out_of_disk(state: object, folder: Path, **options: object) -> None:
        (folder / "model.safetensors").write_bytes(b"half of it")
        raise OSError("no space left")

    monkeypatch.setattr(hub, "save_torch_state_dict", run_out_of_disk)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(filled(WIDE), tmp_path / "model")
    assert same(from_pretrained(tmp_path / "model"), first)
    assert files_of(tmp_path) == {"model"}


# ----------------------------------------------------------------------------- models that cannot be shared


def headless() -> nn.Module:
    model = filled()
    model.blocks = model.blocks[:3]
    return model


def subclass() -> nn.Module:
    model = filled()
    model.__class__ = type("Mine", (VideoViT,), {})
    return model


UNSHAREABLE = {
    "no config": (lambda: nn.Linear(2, 2), r"Linear has no fourd config .*: its \.config is NoneType"),
    "changed": (headless, r"VideoViT: its state and the module do not match:\s+16 missing: blocks\.3\."),
    "subclass": (subclass, r"Mine: its config builds a VideoViT"),
    "list": (lambda: Line(LineConfig(more=[2])), r"more=\[2\]\) comes back from JSON as .*more=\(2,\)\)"),
    "empty": (lambda: mean_pixel.tiny().build(), "MeanPixel has no weights to share"),
    "hidden buffer": (lambda: Line(LineConfig("a hidden buffer")), r"buffers that no file would hold: table\. Make "),
    "shared": (lambda: Line(LineConfig("shared memory")), r"what was written .*\s+1 missing: \w+\n.*share memory"),
}


@pytest.mark.parametrize(("make", "message"), UNSHAREABLE.values(), ids=UNSHAREABLE)
def test_a_model_that_its_config_would_not_rebuild_is_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        save_pretrained(make(), tmp_path / "model")
    assert files_of(tmp_path) == set()


def test_numbers_that_are_not_finite_are_refused_on_the_way_out_and_in(tmp_path):
    model = filled()
    folder = save_pretrained(model, tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    state["positions"][0, 0] = torch.inf
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 arrays hold numbers that are not finite: positions"):
        from_pretrained(folder)
    with torch.no_grad():
        model.positions[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"VideoViT: 1 arrays hold numbers that are not finite: positions"):
        save_pretrained(model, tmp_path / "other")


# ----------------------------------------------------------------------------- folders that do not fit


def renamed(state: dict) -> dict:
    return {("place" if name == "positions" else name): tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        (renamed, ("1 missing: positions", "1 unexpected: place")),
        (lambda state: {n: t for n, t in state.items() if n != "blocks.2.mlp.dense_in.bias"}, ("1 missing: blocks.2",)),
        (lambda state: state | {"more": torch.zeros(2)}, ("1 unexpected: more",)),
        (lambda state: state | {"positions": torch.zeros(9, 32)}, ("positions (9, 32), expected (32, 32)",)),
    ],
    ids=["renamed", "missing", "extra", "misshapen"],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, messages):
    folder = save_pretrained(filled(), tmp_path / "model")
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors")
    for act in (from_pretrained, lambda folder: push_to_hub(folder, "me/model")):
        with pytest.raises(ValueError, match="do not match") as error:
            act(folder)
        for message in messages:
            assert message in str(error.value)


def test_a_folder_without_a_config_of_ours_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"holds no config\.json of save_pretrained; .*fourd\.load"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(ValueError, match=r"holds no config\.json of save_pretrained"):
        from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"type": "fourd.types:ClipShape", "num_frames": 1, "height": 1, "width": 1}')
    with pytest.raises(ValueError, match="describes a ClipShape, which builds no model"):
        from_pretrained(tmp_path)


def test_what_is_neither_a_folder_nor_a_repository_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder, and no repository"):
        from_pretrained("4ds-e")
    save_pretrained(filled(), tmp_path / "model")
    with pytest.raises(ValueError, match="has no revision 'main'"):
        from_pretrained(tmp_path / "model", revision="main")


def test_code_from_elsewhere_is_run_for_a_folder_of_this_machine_alone(tmp_path, monkeypatch):
    model = Line(LineConfig())
    folder = save_pretrained(model, tmp_path / "model")
    assert same(from_pretrained(folder), model)
    imported = []
    monkeypatch.setattr(snapshot, "snapshot_download", lambda *_, **__: str(folder))
    monkeypatch.setattr(provenance, "find", imported.append)
    with pytest.raises(ValueError, match=rf"names {__name__}:LineConfig, code that is not part of a model of fourd"):
        from_pretrained("them/model")
    assert imported == []


# ----------------------------------------------------------------------------- the Hub


class HubOnDisk:
    """Do what the tests need of the Hub, in a folder: one sub-folder for each repository."""

    root: Path
    tokens: list[str | None] = []  # noqa: RUF012 -- of the class, since each call makes an instance
    public: set[str] = set()  # noqa: RUF012

    def __init__(self, token: str | None = None) -> None:
        self.tokens.append(token)

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        if not (self.root / repo_id).exists():
            (self.root / repo_id).mkdir(parents=True)
            self.public |= set() if private else {repo_id}
        return f"https://hub/{repo_id}"

    def repo_info(self, repo_id):
        return type("Info", (), {"private": repo_id not in self.public})

    def upload_folder(self, *, repo_id, folder_path, commit_message, allow_patterns, delete_patterns):
        for pattern in delete_patterns:
            for old in (self.root / repo_id).glob(pattern):
                old.unlink()
        for name in allow_patterns:
            shutil.copy(Path(folder_path) / name, self.root / repo_id / name)

    def snapshot_download(self, repo_id, revision=None, allow_patterns=None, **_):
        self.tokens.append(revision)
        return str(self.root / repo_id)


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    HubOnDisk.root, HubOnDisk.tokens, HubOnDisk.public = tmp_path / "hub", [], set()
    monkeypatch.setattr(hub, "HfApi", HubOnDisk)
    monkeypatch.setattr(snapshot, "snapshot_download", HubOnDisk().snapshot_download)
    HubOnDisk.tokens.clear()
    return HubOnDisk


def test_a_pushed_model_is_loaded_by_its_name(on_disk):
    model = filled()
    assert push_to_hub(model, "me/model", token="secret") == "https://hub/me/model"
    assert on_disk.tokens == ["secret"]
    assert files_of(on_disk.root / "me/model") == {"config.json", "model.safetensors", "README.md"}
    assert 'fourd.load("me/model")' in (on_disk.root / "me/model/README.md").read_text()
    assert same(from_pretrained("me/model"), model)
    assert same(fourd.load("me/model"), model)
    from_pretrained("me/model", revision="v1")
    assert on_disk.tokens[1:] == [None, None, "v1"]


def test_a_pushed_folder_tells_its_name_and_keeps_what_was_written_into_its_card(on_disk, tmp_path):
    folder = save_pretrained(filled(), tmp_path / "model")
    assert 'fourd.load("owner/name")' in (folder / "README.md").read_text()
    with (folder / "README.md").open("a") as card:
        card.write("Trained by hand.\n")
    (folder / "notes.txt").write_text("for myself")
    for name in ("me/one", "me/two"):
        push_to_hub(folder, name)
        card = (on_disk.root / name / "README.md").read_text()
        assert f'fourd.load("{name}")' in card
        assert "Trained by hand." in card
    assert files_of(on_disk.root / "me/two") == {"config.json", "model.safetensors", "README.md"}


def test_a_new_model_leaves_no_shards_of_the_old_one(on_disk, tmp_path):
    push_to_hub(save_pretrained(filled(), tmp_path / "model", max_shard_size="30KB"), "me/model")
    assert len(files_of(on_disk.root / "me/model")) > 5
    second = filled(WIDE)
    push_to_hub(second, "me/model")
    assert same(from_pretrained("me/model"), second)


def test_a_private_model_never_goes_to_a_public_repository(on_disk):
    push_to_hub(filled(), "me/open")
    before = sha256(on_disk.root / "me/open/model.safetensors")
    with pytest.raises(ValueError, match="is there already, and public"):
        push_to_hub(filled(seed=1), "me/open", private=True)
    assert sha256(on_disk.root / "me/open/model.safetensors") == before
    push_to_hub(filled(), "me/closed", private=True)
    assert on_disk.public == {"me/open"}


def test_a_config_of_another_lab_is_pushed_with_a_word_on_how_to_load_it(on_disk):
    push_to_hub(Line(LineConfig()), "me/line")
    card = (on_disk.root / "me/line/README.md").read_text()
    assert f"names {__name__}:LineConfig, which is not part of fourd" in card
    assert 'fourd.from_pretrained("me/line")' in card


def test_the_config_is_one_that_provenance_describes(tmp_path):
    save_pretrained(filled(), tmp_path / "model")
    described = json.loads((tmp_path / "model/config.json").read_text())
    assert provenance.rebuild(described) == video_vit.tiny()
    assert isinstance(provenance.rebuild(described), VideoViTConfig)

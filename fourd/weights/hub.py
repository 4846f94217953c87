"""Share what was trained: a folder that rebuilds its model, here and on the Hugging Face Hub.

The folder holds `config.json` (see `fourd.provenance.describe`), `model.safetensors` or its shards with their index,
and `README.md`, the model card.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, save_torch_state_dict
from torch import nn

from fourd import provenance
from fourd.types import BackboneConfig, Config
from fourd.weights.card import CARD_NAME, SOMEWHERE, address, write_card
from fourd.weights.compare import listed, require_same, shapes_of
from fourd.weights.files import CONFIG_NAME, INDEX_NAME, WEIGHTS_NAME, StoredState, build_from, require_finite
from fourd.weights.snapshot import looks_like_repository, require_own_types, snapshot

_Path = str | os.PathLike[str]

_OURS = re.compile(rf"{CONFIG_NAME}|{CARD_NAME}|{INDEX_NAME}|{WEIGHTS_NAME}|model-\d+-of-\d+\.safetensors")
_WEIGHTS = ("*.safetensors", f"*{INDEX_NAME}")


def save_pretrained(
    model: nn.Module,
    folder: _Path,
    *,
    run: _Path | None = None,
    licence: str | None = None,
    max_shard_size: int | str = "4GB",
) -> Path:
    """Write a model into a folder from which `from_pretrained` and `fourd.load` rebuild it, to the bit.

    run: the folder of the run that trained it, from which the model card is filled. licence: its identifier on the
    Hub; none is claimed unless given. A folder that an earlier call wrote is replaced, when the new one is whole.
    Raises ValueError for a model that its config would not rebuild, for numbers that are not finite, and for a run
    that trained another model; FileExistsError for a folder that holds anything else.
    """
    return _save(model, Path(folder).absolute(), run, SOMEWHERE, licence, max_shard_size)


def from_pretrained(
    name_or_folder: _Path,
    *,
    dtype: torch.dtype | None = None,
    native_size: bool | None = None,
    revision: str | None = None,
) -> nn.Module:
    """Rebuild a model from a folder of `save_pretrained`, or from a repository of the Hub, ready to be used.

    dtype: of the weights; None keeps what is stored, and maps it into memory. native_size: see `fourd.load`; None
    keeps what is stored. revision: a branch, tag or commit of the repository.
    Raises ValueError naming every array that is missing, unexpected, misshapen or not finite, and for a config that
    names code outside of fourd, unless the folder is one of this machine: a download decides what is run here.
    """
    folder, is_download = _find(name_or_folder, revision)
    config = _read_config(folder, is_download)
    if native_size is not None:
        if not isinstance(config, BackboneConfig):
            raise ValueError(f"{folder} holds a {type(config).__name__}: native_size is for backbones alone")
        config = replace(config, native_size=native_size)
    model: nn.Module = build_from(config, folder, dtype=dtype)
    return model


def push_to_hub(
    model_or_folder: nn.Module | _Path,
    repo_id: str,
    *,
    run: _Path | None = None,
    private: bool = False,
    token: str | None = None,
    licence: str | None = None,
) -> str:
    """Upload a model, or a folder of `save_pretrained`, to a repository of the Hub, and return its address.

    repo_id: `owner/name`, made where it is not there yet. private: nobody else may see it. run, licence: see
    `save_pretrained`; a folder's card is written anew where one is given, and told the repository's name otherwise.
    token: of an account that may write; None takes that of `hf auth login`.
    Raises ValueError for a folder whose weights and config do not fit, and where `private` is asked of a public one.
    """
    if isinstance(model_or_folder, nn.Module):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            return _upload(_save(model_or_folder, folder, run, repo_id, licence, "4GB"), repo_id, private, token)
    folder = Path(model_or_folder)
    _prepare(folder, repo_id, run, licence)
    return _upload(folder, repo_id, private, token)


# ----------------------------------------------------------------------------- from a model to a folder


def _save(
    model: nn.Module, folder: Path, run: _Path | None, repo_id: str, licence: str | None, max_shard_size: int | str
) -> Path:
    config = _config_of(model)
    _require_ours(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        provenance.write_json(aside / CONFIG_NAME, provenance.describe(config))
        _save_state(model, aside, max_shard_size)
        write_card(aside, config, run=None if run is None else Path(run), repo_id=repo_id, licence=licence)
        _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _config_of(model: nn.Module) -> Config[Any]:
    """Take the config of a model, once it is sure that the model can be rebuilt from it."""
    kind, config = type(model).__name__, getattr(model, "config", None)
    if not isinstance(config, Config):
        raise ValueError(f"{kind} has no fourd config to rebuild it from: its .config is {type(config).__name__}")
    again = provenance.rebuild(provenance.describe(config))
    if again != config:
        raise ValueError(f"{kind}: its config {config} comes back from JSON as {again}")
    with torch.device("meta"):
        built = again.build()
    if type(built) is not type(model):
        raise ValueError(f"{kind}: its config builds a {type(built).__name__}")
    if not model.state_dict():
        raise ValueError(f"{kind} has no weights to share")
    advice = "The model was changed after it was built: describe the change in its config."
    require_same(shapes_of(model.state_dict()), shapes_of(built.state_dict()), f"{kind}: its state", advice)
    hidden = sorted({name for name, _ in model.named_buffers()} - model.state_dict().keys())
    if hidden:
        raise ValueError(f"{kind} has buffers that no file would hold: {listed(hidden)}. Make them persistent")
    require_finite(model, kind)
    return config


def _save_state(model: nn.Module, folder: Path, max_shard_size: int | str) -> None:
    """Write the weights by the Hub's own means, and see that all are there."""
    expected = shapes_of(model.state_dict())
    save_torch_state_dict(model.state_dict(), folder, max_shard_size=max_shard_size)
    advice = "Arrays that share memory are stored once: let the model hold each under one name."
    require_same(StoredState(folder).shapes, expected, f"{type(model).__name__}: what was written", advice)


def _require_ours(folder: Path) -> None:
    """Refuse to replace what `save_pretrained` did not write."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file: name a folder")
    found = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    others = [name for name in found if not _OURS.fullmatch(name)]
    if found and (others or "type" not in _json(folder)):
        raise FileExistsError(
            f"{folder} holds {listed(others or found)}, which save_pretrained did not write. Name another folder"
        )


def _json(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _put_in_place(aside: Path, folder: Path) -> None:
    """Give a folder that is whole its name; what had it before goes when that is done."""
    mode = (aside / CONFIG_NAME).stat().st_mode
    for path in aside.iterdir():
        path.chmod(mode)  # safetensors hides its files from everybody else
        with path.open("rb") as file:
            os.fsync(file.fileno())
    old = aside.with_name(f"{aside.name}.old")
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


# ----------------------------------------------------------------------------- from a folder to a model


def _find(name_or_folder: _Path, revision: str | None) -> tuple[Path, bool]:
    """Find a folder, and say whether somebody else wrote it."""
    folder, name = Path(name_or_folder).expanduser(), os.fspath(name_or_folder)
    if folder.is_dir():
        if revision is not None:
            raise ValueError(f"{folder} is a folder, which has no revision {revision!r}")
        return folder, False
    if not looks_like_repository(name):
        raise FileNotFoundError(f"{name!r} is no folder, and no repository of the Hub (owner/name); see fourd.load")
    return snapshot(name if revision is None else f"{name}@{revision}"), True


def _read_config(folder: Path, is_download: bool) -> Config[Any]:
    described = _json(folder)
    if "type" not in described:
        raise ValueError(
            f"{folder} holds no {CONFIG_NAME} of save_pretrained; a rival's checkpoint is loaded by fourd.load"
        )
    if is_download:
        require_own_types(described, folder)
    config = provenance.rebuild(described)
    if not isinstance(config, Config):
        raise ValueError(f"{folder / CONFIG_NAME} describes a {type(config).__name__}, which builds no model")
    return config


# ----------------------------------------------------------------------------- from a folder to the Hub


def _prepare(folder: Path, repo_id: str, run: _Path | None, licence: str | None) -> None:
    """Check a folder before all the world sees it, and bring its card up to date."""
    config = _read_config(folder, is_download=False)
    with torch.device("meta"):
        expected = shapes_of(config.build().state_dict())
    require_same(StoredState(folder).shapes, expected, str(folder), "Save the model again.")
    card = folder / CARD_NAME
    if run is not None or licence is not None or not card.is_file():
        write_card(folder, config, run=None if run is None else Path(run), repo_id=repo_id, licence=licence)
    else:
        card.write_text(address(card.read_text(), repo_id))


def _upload(folder: Path, repo_id: str, private: bool, token: str | None) -> str:
    api = HfApi(token=token)
    url = str(api.create_repo(repo_id, private=private, exist_ok=True))
    if private and not api.repo_info(repo_id).private:
        raise ValueError(f"{url} is there already, and public: make it private, or name another one. Nothing was sent")
    # of an earlier model there may be shards, which would stand beside the new ones
    api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message="Upload model with fourd",
        allow_patterns=[entry.name for entry in folder.iterdir() if _OURS.fullmatch(entry.name)],
        delete_patterns=list(_WEIGHTS),
    )
    return url

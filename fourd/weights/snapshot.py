"""A repository of the Hugging Face Hub as a folder on this machine, and what of it is trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from fourd import provenance
from fourd.depth_model import DepthModelConfig
from fourd.readout import ReadoutSize
from fourd.tasks.depth import DepthConfig
from fourd.types import BackboneConfig, ObjectiveConfig
from fourd.weights.files import CONFIG_NAME

_PATTERNS = ("*.json", "*.safetensors", "*.pth")


def looks_like_repository(name: str) -> bool:
    """Tell whether a name is of the form `owner/name`, with `@revision` or without."""
    owner, slash, rest = name.partition("/")
    return bool(owner and slash and rest) and "/" not in rest and not name.startswith((".", "/", "~"))


def snapshot(repository: str) -> Path:
    """Download a repository's weights and configuration, by the Hub's own cache."""
    name, _, revision = repository.partition("@")
    address = f"https://huggingface.co/{name}"
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(_PATTERNS)))
    except GatedRepoError as error:
        raise ValueError(
            f"{address} is gated: accept its licence there, then `hf auth login`, and load again"
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(f"{address} does not exist, or is private: check the name, or `hf auth login`") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ConnectionError(
            f"cannot fetch {address} ({error}). Fetch its {', '.join(_PATTERNS)} on a machine with network, "
            "put them into one folder, and load that folder"
        ) from error


_OF_MODELS = (BackboneConfig, ObjectiveConfig, DepthModelConfig, DepthConfig, ReadoutSize)


def _describes_a_model(kind: object) -> bool:
    """Tell what describes a part of a model from what would read or write files when it is built."""
    return isinstance(kind, type) and issubclass(kind, _OF_MODELS)


def require_own_types(described: Any, path: Path) -> None:
    """Raise ValueError where a config names anything but models of fourd: a download does not decide what is run."""
    if isinstance(described, list):
        for item in described:
            require_own_types(item, path)
    if isinstance(described, dict):
        kind = str(described.get("type"))
        if not kind.startswith("fourd.") or not _describes_a_model(provenance.find(kind)):
            raise ValueError(
                f"{path / CONFIG_NAME} names {kind}, code that is not part of a model of fourd, which is not run for "
                "a download. If you trust it, install it and load the downloaded folder by its path"
            )
        for value in described.values():
            require_own_types(value, path)

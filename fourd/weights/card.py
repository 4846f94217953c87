"""The model card: what a saved model is, how to use it, and what the run that trained it says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData

from fourd.depth_model import DepthModelConfig
from fourd.provenance import describe
from fourd.types import BackboneConfig, Config
from fourd.weights.files import StoredState

CARD_NAME = "README.md"
SOMEWHERE = "owner/name"
"""Stands for the repository while it is not known."""

_RUN_TYPE = "fourd.trainer.config:RunConfig"
_FREE = "native_size"
"""A field that is no matter of the weights."""

Rows = list[tuple[str, str]]


def write_card(
    folder: Path,
    config: Config[Any],
    *,
    run: Path | None = None,
    repo_id: str = SOMEWHERE,
    licence: str | None = None,
) -> None:
    """Write the card of a model that was saved in `folder`.

    run: the folder of the run that trained it; without it the card says that nothing is known. licence: its
    identifier on the Hub, such as "apache-2.0"; none is claimed unless given. Absolute paths stay unpublished.
    Raises FileNotFoundError where `run` is no run's folder, ValueError where it trained no model of this config.
    """
    data = ModelCardData(
        library_name="fourd",
        license=licence,
        pipeline_tag="depth-estimation" if isinstance(config, DepthModelConfig) else "feature-extraction",
        tags=["video", "fourd", *(["video-feature-extraction"] if isinstance(config, BackboneConfig) else [])],
    )
    parts = [f"---\n{data.to_yaml()}\n---", _what_it_is(folder, config), _use(config, repo_id)]
    parts.append(_unknown_origin() if run is None else _origin(folder, config, run))
    ModelCard("\n\n".join(parts) + "\n").save(folder / CARD_NAME)


def address(card: str, repo_id: str) -> str:
    """Put a repository's name into the lines of a card that load the model."""
    return re.sub(r'(fourd\.(?:load|load_depth|from_pretrained)\(")[^"]*(")', rf"\g<1>{repo_id}\g<2>", card)


# ----------------------------------------------------------------------------- the model


def _what_it_is(folder: Path, config: Config[Any]) -> str:
    num_parameters = sum(torch.Size(shape).numel() for shape in StoredState(folder).shapes.values())
    name = type(config).__name__.removesuffix("Config")
    lines = [f"# {name}, {num_parameters / 1e6:,.1f}M parameters", "", _input(config)]
    return "\n".join(lines).rstrip()


def _input(config: Config[Any]) -> str:
    backbone = config.backbone if isinstance(config, DepthModelConfig) else config
    if not isinstance(backbone, BackboneConfig):
        return ""
    with torch.device("meta"):
        native = backbone.build().native_input
    frames = "frames, any number of them," if native.num_frames is None else f"clips of {native.num_frames} frames"
    (height, width), (t, h, w) = native.size, native.patch
    return f"It takes {frames} of {height} x {width} pixels; one token covers {t} x {h} x {w} (frames, rows, columns)."


def _use(config: Config[Any], repo_id: str) -> str:
    if isinstance(config, DepthModelConfig):
        lines = [f'model = fourd.load_depth("{repo_id}")', "depth = model(video)  # metres, B T H W"]
    elif isinstance(config, BackboneConfig):
        lines = [f'backbone = fourd.load("{repo_id}")', "(features,) = backbone(video, (0.95,))  # B t h w D"]
    else:
        lines = [f'model = fourd.from_pretrained("{repo_id}")']
    code = "\n".join(["```python", "import fourd", "", *lines, "```"])
    return f"## Use\n\n{code}\n\n`video` is B T 3 H W: uint8, or float in [0, 1]; RGB.{_foreign(config)}"


def _foreign(config: Config[Any]) -> str:
    others = sorted({kind for kind in _types(describe(config)) if not kind.startswith("fourd.")})
    if not others:
        return ""
    return (
        f" Its config names {', '.join(others)}, which is not part of fourd: with that installed, download the "
        "repository and load the folder by its path."
    )


def _types(described: Any) -> Iterator[str]:
    for node in _nodes(described):
        if "type" in node:
            yield node["type"]


def _nodes(described: Any) -> Iterator[Mapping[str, Any]]:
    """Walk over a description and all that it holds."""
    if isinstance(described, dict):
        yield described
    for inner in described.values() if isinstance(described, dict) else described:
        if isinstance(inner, (dict, list)):
            yield from _nodes(inner)


# ----------------------------------------------------------------------------- the run


def _unknown_origin() -> str:
    return "## How it was trained\n\nNot recorded: it was saved without the folder of a run."


def _origin(folder: Path, config: Config[Any], run: Path) -> str:
    described = _read(run, "config.json")
    if described.get("type") != _RUN_TYPE:
        raise ValueError(f"{run / 'config.json'} describes {described.get('type')!r}, expected {_RUN_TYPE!r}")
    _require_trained_here(config, described, run)
    rows = _training(described) + _outcome(described, run) + _machine(_read(run, "environment.json"), run)
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    code = json.dumps(_without_places(described), indent=2)
    details = f"<details>\n<summary>The run's config</summary>\n\n```json\n{code}\n```\n\n</details>"
    return f"## How it was trained\n\n{table}\n\n{_whose_weights(folder, run)}\n\n{details}"


def _read(run: Path, name: str) -> dict[str, Any]:
    path = run / name
    if not path.is_file():
        raise FileNotFoundError(f"{run} holds no {name}; expected the folder of a run, as fourd.trainer.fit writes it")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _require_trained_here(config: Config[Any], described: Mapping[str, Any], run: Path) -> None:
    """Refuse the run of another model, whose figures would be taken for this one's."""
    own = [describe(part) for part in (config, getattr(config, "backbone", None)) if part is not None]
    wanted = [_weights_part(part) for part in own]
    if not any(_weights_part(node) in wanted for node in _nodes(described)):
        raise ValueError(
            f"{run} trained no {type(config).__name__} with these values: {json.dumps(wanted[0])}. "
            "Name the run that trained this model, or none"
        )


def _weights_part(node: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != _FREE}


def _training(described: Mapping[str, Any]) -> Rows:
    samples, repeat = described["steps"] * described["batch_size"], described.get("repeat", 1)
    views = f", {repeat} views of each of {samples // repeat:,}" if repeat > 1 else ""
    held_out = described["held_out"]
    rows = [
        ("objective", _short(described["objective"])),
        ("data", _short(described["data"])),
        ("held out", _short(held_out) if held_out else "nothing"),
        ("optimiser", _short(described["optim"])),
        ("length", f"{described['steps']:,} steps of {described['batch_size']:,} clips: {samples:,} clips{views}"),
        ("started from", f"`{_name_alone(described['init'])}`" if described["init"] else "random weights"),
    ]
    return [*rows, ("seed", str(described["seed"])), ("precision", described["precision"])]


def _outcome(described: Mapping[str, Any], run: Path) -> Rows:
    """Say where the losses ended, and what was left out."""
    last, held_out = _last_losses(run)
    rows = [("last loss", _loss(last, "loss"))]
    if last["step"] < described["steps"]:
        rows.insert(0, ("state when saved", f"step {last['step']:,} of {described['steps']:,}"))
    if held_out:
        rows.append(("last held-out loss", _loss(held_out, "held_out_loss")))
    if (unreadable := run / "unreadable.csv").is_file():
        rows.append(("files that were not used", str(len(unreadable.read_text().splitlines()) - 1)))
    if (quarantine := run / "quarantine.jsonl").is_file():
        whole = [json.loads(line) for line in quarantine.read_text().splitlines(keepends=True) if line.endswith("\n")]
        rows.append(("clips that could not be decoded", str(len({line["path"] for line in whole}))))
    return rows


def _loss(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    return f"{'not finite' if value is None else format(value, '.4g')} (step {record['step']:,})"


def _last_losses(run: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Read the last record of the metrics, and the last that has a held-out loss; a line torn by a kill ends them."""
    path = run / "metrics.jsonl"
    last: Mapping[str, Any] = {}
    held_out: Mapping[str, Any] = {}
    if path.is_file():
        with path.open() as file:
            for line in file:
                if not line.endswith("\n"):
                    break
                last = json.loads(line)
                held_out = last if "held_out_loss" in last else held_out
    if not last:
        raise FileNotFoundError(f"{path} holds no step: nothing was trained in {run}")
    return last, held_out


def _machine(environment: Mapping[str, Any], run: Path) -> Rows:
    git = environment.get("git") or {}
    commit = f", commit {git['commit'][:10]}" if git.get("commit") else ""
    changed = ", with changes that are not committed" if git.get("changed") else ""
    restarts = run / "restarts.jsonl"
    num_restarts = len(restarts.read_text().splitlines()) if restarts.is_file() else 0
    return [
        ("code", f"fourd {environment['fourd']}{commit}{changed}; torch {environment['torch']}"),
        ("machine", environment["gpu"] or f"{environment['processor']}, num_threads {environment['num_threads']}"),
        ("times it was started", f"{1 + num_restarts}"),
    ]


def _whose_weights(folder: Path, run: Path) -> str:
    """Compare the weights with those that the run ended with."""
    stored = StoredState(folder)
    for path in sorted((run / "final").glob("*.safetensors")):
        final = StoredState(path)
        if final.shapes == stored.shapes and all(
            torch.equal(stored.read(name), final.read(name)) for name in stored.shapes
        ):
            return f"The weights are, to the bit, those that the run ended with (`final/{path.name}`)."
    return "The weights are not those that the run ended with: taken along the way, or changed since."


# ----------------------------------------------------------------------------- words


def _short(described: Mapping[str, Any]) -> str:
    """Name a part and its plain values, in one line; the parts that it holds stand in the whole config below."""
    plain = {name: value for name, value in described.items() if name != "type" and not isinstance(value, dict)}
    values = ", ".join(f"{name} {json.dumps(_without_places(value))}" for name, value in plain.items())
    return f"`{described['type'].rpartition(':')[2].removesuffix('Config')}`: {values}".replace("|", "\\|")


def _without_places(value: Any) -> Any:
    """Leave of absolute paths their last part: where files lie on somebody's machine is nobody's business."""
    if isinstance(value, dict):
        return {name: _without_places(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_places(inner) for inner in value]
    return _name_alone(value) if isinstance(value, str) else value


def _name_alone(text: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(text)
        if path.is_absolute() or text.startswith("~"):
            return f".../{path.name}"
    return text

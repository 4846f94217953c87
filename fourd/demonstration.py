"""A study: pretrain, probe what was learned beside honest baselines, and show the comparison.

Every part of a study lies in its own folder and is made once: a study that was stopped, or is asked
for again with more seeds, does only what is missing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fourd import evaluate, results, run_folder
from fourd.encoded import Encoded, EncodedConfig
from fourd.evaluate import Subject
from fourd.objectives.probe import Probe, ProbeConfig
from fourd.optim import OptimConfig
from fourd.results import Rows
from fourd.trainer import RunConfig, fit
from fourd.types import BackboneConfig, ClipShape, DatasetConfig, ReadoutKind, TaskConfig


@dataclass(frozen=True)
class Presentation:
    """Hold what a page says that no row says; changing it changes no number."""

    title: str
    lead: str
    notes: tuple[str, ...]
    entry_notes: tuple[tuple[str, str], ...]
    """What each entry asks, in a sentence."""
    headlines: tuple[tuple[str, str], ...]
    """Which metric stands for an entry, where that is not its first."""
    command: str


@dataclass(frozen=True)
class StudyConfig:
    """Describe a study in full."""

    suite: str
    """Name and version of what is measured; another constant is another version."""
    pretraining: RunConfig
    backbone: BackboneConfig
    """What is pretrained; left at random weights, it is the first baseline."""
    baseline: BackboneConfig
    """What needs no learning, the second baseline."""
    train: DatasetConfig
    test: DatasetConfig
    tasks: tuple[TaskConfig, ...]
    clip: ClipShape
    readouts: tuple[ReadoutKind, ...]
    depths: tuple[float, ...]
    probe_optim: OptimConfig
    probe_steps: int
    probe_batch_size: int
    presentation: Presentation


@dataclass(frozen=True)
class Contender:
    """Describe one set of features that a study compares."""

    subject: Subject
    backbone: BackboneConfig
    depths: tuple[float, ...]
    weights: str = ""


def run_study(config: StudyConfig, out: Path, seeds: Sequence[int]) -> Rows:
    """Do what is missing of a study, and return the rows of all `seeds`; they are in `out/rows.parquet`."""
    out = out.resolve()  # a folder is the same however it is spelled
    clips = {"train": config.train.build().fingerprint, "test": config.test.build().fingerprint}
    run_folder.claim(out, config, free_to_change=["presentation"], inputs=clips)
    parts = [_controls(config, out)]
    for seed in sorted({*seeds, *finished_seeds(config, out)}):
        weights = pretrain(config, out, seed)
        parts += [_probe(config, out, contender) for contender in contenders(config, weights, seed)]
    rows = evaluate.join(parts)
    results.write_rows(out / "rows.parquet", rows.table, rows.metrics)
    return rows


def finished_seeds(config: StudyConfig, out: Path) -> list[int]:
    """List the seeds that an earlier call finished: what was paid for is shown."""
    seeds = [int(path.name.removeprefix("seed_")) for path in out.glob("seed_*")]
    return [
        seed
        for seed in seeds
        if all((probe_folder(out, c) / "rows.parquet").exists() for c in contenders(config, Path(), seed))
    ]


def pretrain(config: StudyConfig, out: Path, seed: int) -> Path:
    """Pretrain with one seed where that has not been done, and return the weights."""
    weights = out / f"seed_{seed}" / "pretrain" / "final" / "model.safetensors"
    if not weights.exists():
        fit(dataclasses.replace(config.pretraining, seed=seed), weights.parent.parent, title=f"pretrain, seed {seed}")
    return weights


def contenders(config: StudyConfig, weights: Path, seed: int) -> list[Contender]:
    """List what is compared for one seed; the first is what was pretrained."""
    name, floor = _name(config.backbone), _name(config.baseline)
    return [
        Contender(Subject(config.suite, name, "pretrained", seed), config.backbone, config.depths, str(weights)),
        Contender(Subject(config.suite, name, "random", seed), config.backbone, config.depths),
        Contender(Subject(config.suite, floor, "none", seed), config.baseline, config.depths[-1:]),
    ]


def _name(backbone: BackboneConfig) -> str:
    """Name an architecture by its module."""
    return type(backbone).__module__.rpartition(".")[2]


def _controls(config: StudyConfig, out: Path) -> Rows:
    path = out / "controls.parquet"
    if not path.exists():
        tasks = [task.build() for task in config.tasks]
        rows = evaluate.evaluate_controls(tasks, config.train.build(), config.test.build(), config.suite)
        results.write_rows(path, rows.table, rows.metrics)
    return results.read_rows(path)


def _probe(config: StudyConfig, out: Path, contender: Contender) -> Rows:
    """Learn all readouts of a contender's features, and score them."""
    path = probe_folder(out, contender) / "rows.parquet"
    if not (path.exists() and _same_inputs(config, out, contender)):
        probe, test = train_probe(config, out, contender)
        rows = evaluate.evaluate(probe, test, contender.subject, config.pretraining.precision)
        results.write_rows(path, rows.table, rows.metrics)
    return results.read_rows(path)


def _same_inputs(config: StudyConfig, out: Path, contender: Contender) -> bool:
    """Say whether a probe learned from these very clips and weights; where not, `fit` refuses its folder."""
    encoded = _encoded(config, out, contender)
    path = probe_folder(out, contender) / "inputs.json"
    return path.exists() and json.loads(path.read_text())["data"] == encoded.fingerprint(config.train.build())


def _encoded(config: StudyConfig, out: Path, contender: Contender) -> EncodedConfig:
    return EncodedConfig(
        config.train,
        contender.backbone,
        contender.depths,
        contender.weights,
        contender.subject.seed,
        str(out / "features"),
        config.pretraining.precision,
    )


def train_probe(config: StudyConfig, out: Path, contender: Contender) -> tuple[Probe, Encoded]:
    """Learn the readouts, or take them from where they lie, and encode the test clips."""
    encoded = _encoded(config, out, contender)
    objective = ProbeConfig(
        contender.backbone, config.tasks, config.clip, config.readouts, contender.depths, use="encoded"
    )
    run_config = RunConfig(
        objective=objective,
        data=encoded,
        optim=config.probe_optim,
        steps=config.probe_steps,
        batch_size=config.probe_batch_size,
        seed=contender.subject.seed,
        precision=config.pretraining.precision,
    )
    subject = contender.subject
    probe = fit(run_config, probe_folder(out, contender), f"probe {subject.backbone} ({subject.weights})")
    assert isinstance(probe, Probe)
    return probe, dataclasses.replace(encoded, data=config.test).build()


def probe_folder(out: Path, contender: Contender) -> Path:
    """Say where a contender's probe lies."""
    subject = contender.subject
    return out / f"seed_{subject.seed}" / f"probe_{subject.backbone}_{subject.weights}"


def draw_pictures(config: StudyConfig, out: Path, seed: int) -> Path:
    """Draw what one seed's pretrained features answer, once; the pictures are in `out/pictures`."""
    out = out.resolve()
    folder = out / "pictures"
    if not (folder / "pictures.json").exists():
        folder.mkdir(exist_ok=True)
        subject = contenders(config, pretrain(config, out, seed), seed)[0]
        probe, test = train_probe(config, out, subject)
        rows = results.read_rows(probe_folder(out, subject) / "rows.parquet")
        shutil.copy(out / f"seed_{seed}" / "pretrain" / "reconstruction.png", folder)
        headlines = dict(config.presentation.headlines)
        evaluate.draw_gallery(probe, test, rows, subject.subject, folder, config.pretraining.precision, headlines)
    return folder

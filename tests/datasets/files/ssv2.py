"""Write a small copy of Something-Something v2: four classes, and a film of each length in every split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from fourd.datasets.ssv2 import Ssv2Config, base
from tests.films import write_film

WIDTH, HEIGHT, FPS = 64, 48, 12.0
FOLDER = "20bn-something-something-v2"
LABELS = {  # neither in the order of the numbers nor of the alphabet
    "Pushing something from right to left": "2",
    "Covering something with something": "0",
    "Pushing something from left to right": "1",
    "Tearing something into two pieces": "3",
}
TEMPLATES = {
    0: "Covering [something] with [something]",
    1: "Pushing [something] from left to right",
    2: "Pushing [something] from right to left",
    3: "Tearing [something] into two pieces",
}
CLASS = {"78687": 2, "3201": 0, "42326": 1, "900": 3, "101": 0, "55": 1}
NUM_FRAMES = {"78687": 20, "3201": 31, "42326": 7, "900": 12, "101": 15, "55": 26}
SPLIT = {"train": ("78687", "3201", "42326"), "validation": ("900", "101"), "test": ("55",)}


def item(key: str) -> dict:
    """Describe a film as the lists do; its label is the template with things filled in, and is no class."""
    template = TEMPLATES[CLASS[key]]
    return {
        "id": key,
        "label": template.replace("[something]", "a cup").lower(),
        "template": template,
        "placeholders": ["a cup"] * template.count("["),
    }


def answer(key: str) -> str:
    """Write a line of the test split's answers."""
    return f"{key};{TEMPLATES[CLASS[key]].replace('[', '').replace(']', '')}\n"


def write_lists(folder: Path, prefix: str = "") -> None:
    """Write the lists; `prefix` gives them their older names."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {split: [item(key) for key in keys] for split, keys in SPLIT.items()}
    lists["test"] = [{"id": key} for key in SPLIT["test"]]
    for name, told in {**lists, "labels": LABELS}.items():
        (folder / f"{prefix}{name}.json").write_text(json.dumps(told))
    (folder / "test-answers.csv").write_text("".join(map(answer, SPLIT["test"])))


def write(root: Path) -> Ssv2Config:
    """Write the copy; its films show their frames' numbers."""
    (root / FOLDER).mkdir(parents=True)
    write_lists(root / "labels")
    for key, num_frames in NUM_FRAMES.items():
        write_film(root / FOLDER / f"{key}.webm", num_frames, size=(WIDTH, HEIGHT), fps=FPS, codec="libvpx-vp9")
    return replace(base(str(root), "train"), num_frames=4, size=(HEIGHT, WIDTH))

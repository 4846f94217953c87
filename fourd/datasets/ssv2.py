"""Something-Something v2: short films of what hands do with things, 174 classes that need the order of time."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fourd.datasets._files import read_json
from fourd.datasets._films import (
    FilmsConfig,
    LabelledFilms,
    ListedFilm,
    Listing,
    films_below,
    first_file,
    listed_paths,
    read_lines,
    stem,
)
from fourd.datasets._labelled import About
from fourd.media import UnreadableVideo
from fourd.types import Unreadable

ABOUT = About(
    title="Something-Something v2",
    licence="Qualcomm's research licence, to be agreed to; not for commercial use",
    how_to_get=(
        "https://www.qualcomm.com/developer/software/something-something-v-2-dataset (with an account): the two parts "
        "20bn-something-something-v2-00 and -01, unpacked by `cat 20bn-something-something-v2-?? | tar xz` in ROOT, "
        "and the package of labels, unpacked in ROOT/labels"
    ),
    layout=(
        "20bn-something-something-v2/<id>.webm, or the films in videos/ (also as .mp4); "
        "labels/{labels,train,validation,test}.json and labels/test-answers.csv, or "
        "something-something-v2-{labels,train,validation,test}.json; in ROOT, labels/ or annotations/"
    ),
    source="Goyal et al., The 'something something' video database for learning and evaluating visual common sense "
    "(ICCV 2017), version 2 of 2018",
    # 220,847 in all; how they are split is from memory
    official={"train": 168_913, "validation": 24_777, "test": 27_157},
)
NUM_CLASSES = 174
_FILM_FOLDERS = ("20bn-something-something-v2", "videos/20bn-something-something-v2", "videos", "")
_LIST_FOLDERS = ("", "labels", "annotations")
_ENDINGS = (".webm", ".mp4")
"""Where a film is there twice, the original counts."""


@dataclass(frozen=True, kw_only=True)
class Ssv2Config(FilmsConfig):
    """Describe a split: train, validation or test. The rest: see `FilmsConfig`."""

    split: str = "validation"

    def __post_init__(self) -> None:
        """Refuse to mirror: "from left to right" would become "from right to left", which is another class."""
        super().__post_init__()
        if self.flip:
            raise ValueError(
                "Ssv2Config.flip: found True; expected False, since a mirrored film shows another class: left and "
                "right tell classes apart"
            )

    def build(self) -> Ssv2:
        """Build what this config describes."""
        return Ssv2(self)


class Ssv2(LabelledFilms):
    """Give clips of Something-Something v2."""

    name = "ssv2"

    def listing(self) -> Listing:
        """Name the films of the split; see `LabelledFilms.listing`."""
        if self.config.film_list:
            return listed_paths(self.root / self.config.film_list, self.root, NUM_CLASSES)
        try:
            path = first_file(self.root, _LIST_FOLDERS, _names(self.config.split), "the list of the split")
        except FileNotFoundError:
            names = [f"{self.config.split}.csv", *(["val.csv"] if self.config.split == "validation" else [])]
            holds = f"it, or {' or '.join(_names(self.config.split))}"
            return listed_paths(first_file(self.root, _LIST_FOLDERS, names, holds), self.root, NUM_CLASSES)
        return self._official(path)

    def _official(self, path: Path) -> Listing:
        classes = {name: index for index, name in enumerate(class_names(str(self.root)))}
        answers = _answers(self.root) if self.config.split == "test" else None
        films, unreadable = [], []
        places = _places(self.root)
        for number, item in enumerate(_items(path)):
            where = f"{path}[{number}]"
            try:
                key, label = _id(item, where), _class(item, answers, classes, where)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
                continue
            missing = str(self.root / _FILM_FOLDERS[0] / f"{key}.webm")
            films.append(ListedFilm(key, key, places.get(key, missing), label))
        return Listing(tuple(films), tuple(unreadable))


def base(root: str, split: str = "validation") -> Ssv2Config:
    """Describe a split: one clip from the middle of each film."""
    return Ssv2Config(root=root, split=split, tasks=Ssv2Config.kinds)


def class_names(root: str) -> tuple[str, ...]:
    """Read the names of the classes, in the order of their numbers.

    Raises: FileNotFoundError where there is no list of them; UnreadableVideo where it is not one.
    """
    path = first_file(Path(root).expanduser(), _LIST_FOLDERS, _names("labels"), "the numbers of the classes")
    table = read_json(path)
    if not isinstance(table, dict):
        raise UnreadableVideo(str(path), f"found a {type(table).__name__}, expected a table from classes to numbers")
    numbers = {}
    for name, number in table.items():
        if not str(number).isdecimal():
            raise UnreadableVideo(str(path), f"field {name!r}: found {number!r}, expected the number of the class")
        numbers[int(number)] = name
    if sorted(numbers) != list(range(len(table))):
        raise UnreadableVideo(str(path), f"its {len(table)} classes do not have the numbers 0 to {len(table) - 1}")
    return tuple(numbers[number] for number in range(len(table)))


def _names(what: str) -> tuple[str, str]:
    return f"{what}.json", f"something-something-v2-{what}.json"


def _places(root: Path) -> dict[str, str]:
    """Find the films by their ids."""
    places: dict[str, str] = {}
    for ending in _ENDINGS:
        for folder in _FILM_FOLDERS:
            if (root / folder).is_dir():
                found = (path for path in films_below(root / folder) if os.path.splitext(path)[1] == ending)
                places = {stem(path): path for path in found} | places
    return places


# ----------------------------------------------------------------------------- one item of a list


def _items(path: Path) -> list[Any]:
    items = read_json(path)
    if not isinstance(items, list):
        raise UnreadableVideo(str(path), f"found a {type(items).__name__}, expected a list of films")
    return items


def _id(item: Any, where: str) -> str:
    key = item.get("id") if isinstance(item, dict) else None
    if not str(key).isdecimal():
        raise UnreadableVideo(where, f"field 'id': found {key!r}, expected a number")
    return str(key)


def _class(item: Any, answers: Mapping[str, str] | None, classes: Mapping[str, int], where: str) -> int:
    """Look up the class of an item by its template: its `label` is what the template becomes with things filled in."""
    field = "template" if answers is None else "answer"
    told = item.get("template") if answers is None else answers.get(str(item["id"]))
    if not isinstance(told, str):
        raise UnreadableVideo(where, f"field {field!r}: found {told!r}, expected the class of film {item['id']}")
    name = told.replace("[", "").replace("]", "")
    if name not in classes:
        raise UnreadableVideo(where, f"field {field!r}: found {told!r}, expected one of the {len(classes)} classes")
    return classes[name]


def _answers(root: Path) -> dict[str, str]:
    """Read the classes of the test split: lines `id;class`."""
    path = first_file(root, _LIST_FOLDERS, ("test-answers.csv",), "the classes of the test split")
    parted = (line.partition(";") for line in read_lines(path) if line.strip())
    return {key.strip(): told.strip().strip('"') for key, _, told in parted}

"""Kinetics-400, -600 and -700: ten-second clips of YouTube films, one of so many actions each."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    title="Kinetics-400, -600 and -700",
    licence="lists: CC BY 4.0; the films belong to those who put them on YouTube",
    how_to_get=(
        "https://github.com/cvdfoundation/kinetics-dataset has scripts that download the clips (Kinetics-400, -600 and "
        "-700-2020; some hundred GB each) and the lists; unpack the replacement for the corrupted clips of "
        "Kinetics-400 too. ROOT holds the clips and the lists of one or several of them"
    ),
    layout=(
        "<split>.csv in ROOT, annotations/ or kinetics<classes>/ (columns label,youtube_id,time_start,time_end,split); "
        "<youtube_id>_<time_start>_<time_end>.mp4, times as six digits, in ROOT or up to three folders below, such as "
        "train/<class>/"
    ),
    source="Kay et al., The Kinetics human action video dataset (2017); Smaira et al., A short note on the "
    "Kinetics-700-2020 human action dataset (2020)",
    # no official counts: films vanish from YouTube, so that they depend on when the clips were downloaded
    overlaps=("tap_vid",),
)
_SPLITS = {
    "train": ("train",),
    "val": ("val", "validate", "validation"),
    "test": ("test",),
}
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_FOLDERS_BELOW = 3
_ID = re.compile(r"[\w-]+", re.ASCII)
_TIMES = re.compile(r"_\d{6}_\d{6}$")


@dataclass(frozen=True, kw_only=True)
class KineticsConfig(FilmsConfig):
    """Describe a split of Kinetics: train, val or test.

    classes: 400, 600 or 700, which picks the lists; lists of one's own may have another number. The rest: see
    `FilmsConfig`. The validation films of Kinetics-400 are largely training films of Kinetics-700 (`shared_films`), so
    that nobody should learn from the one and test on the other.
    """

    split: str = "val"
    classes: int = 700

    def __post_init__(self) -> None:
        """Refuse a split that there is not."""
        super().__post_init__()
        if self.split not in _SPLITS:
            raise ValueError(f"KineticsConfig.split: found {self.split!r}; expected {', '.join(_SPLITS)}")

    def build(self) -> Kinetics:
        """Build what this config describes."""
        return Kinetics(self)


@dataclass(frozen=True)
class _Clip:
    """Hold a line of an official list."""

    key: str
    youtube_id: str
    label: str
    split: str


class Kinetics(LabelledFilms):
    """Give clips of Kinetics; clips of one YouTube film are of one group."""

    name = "kinetics"

    def listing(self) -> Listing:
        """Name the films of the split; see `LabelledFilms.listing`."""
        classes = self.config.classes
        named = self.config.film_list
        path = self.root / named if named else _list_of(self.root, self.config.split, classes)
        if _is_official(path):
            return self._official(path)
        plain = listed_paths(path, self.root, classes)
        films = (ListedFilm(film.key, _youtube_id(film.key), film.path, film.label) for film in plain.films)
        return Listing(tuple(films), plain.unreadable)

    def _official(self, path: Path) -> Listing:
        names = class_names(str(self.root), self.config.classes)
        numbers = {name: number for number, name in enumerate(names)}
        places = _places(self.root, self.config.split)
        films, unreadable = [], []
        for where, line in _lines(path):
            try:
                clip = _clip(line, where)
                label = self._number(clip, numbers, where)
            except UnreadableVideo as error:
                unreadable.append(Unreadable(str(error.path), error.reason))
                continue
            missing = str(self.root / self.config.split / f"{clip.key}.mp4")
            films.append(ListedFilm(clip.key, clip.youtube_id, places.get(clip.key, missing), label))
        return Listing(tuple(films), tuple(unreadable))

    def _number(self, clip: _Clip, numbers: Mapping[str, int], where: str) -> int:
        aliases = _SPLITS[self.config.split]
        if clip.split and clip.split not in aliases:
            raise UnreadableVideo(where, f"column 'split': found {clip.split!r}, expected {' or '.join(aliases)}")
        if clip.label not in numbers:
            raise UnreadableVideo(
                where, f"column 'label': found {clip.label!r}, expected one of {len(numbers)} classes"
            )
        return numbers[clip.label]


def k400(root: str, split: str = "val") -> KineticsConfig:
    """Describe a split of Kinetics-400: one clip from the middle of each film."""
    return KineticsConfig(root=root, split=split, classes=400, tasks=KineticsConfig.kinds)


def k600(root: str, split: str = "val") -> KineticsConfig:
    """Describe a split of Kinetics-600: one clip from the middle of each film."""
    return KineticsConfig(root=root, split=split, classes=600, tasks=KineticsConfig.kinds)


def k700(root: str, split: str = "val") -> KineticsConfig:
    """Describe a split of Kinetics-700: one clip from the middle of each film."""
    return KineticsConfig(root=root, split=split, classes=700, tasks=KineticsConfig.kinds)


def base(root: str, split: str = "val") -> KineticsConfig:
    """Describe a split of Kinetics-700, as `k700` does."""
    return k700(root, split)


def class_names(root: str, classes: int = 700) -> tuple[str, ...]:
    """Collect the names of the classes from the official lists; a class's number is its place in their alphabet.

    Raises: FileNotFoundError where there is no official list; UnreadableVideo where they name another number of
    classes.
    """
    folder = Path(root).expanduser()
    lists = list(_official_lists(folder, classes))
    if not lists:
        _list_of(folder, "val", classes)
        raise FileNotFoundError(f"{folder}: its lists do not name classes; expected columns {','.join(_COLUMNS)}")
    names: set[str] = set()
    for path in lists:
        names |= {line["label"] for _, line in _lines(path) if line.get("label")}
        if len(names) == classes:  # the others would tell the same, and that for training is long
            break
    if len(names) != classes:
        raise UnreadableVideo(
            ", ".join(map(str, lists)),
            f"column 'label': found {len(names)} classes, expected {classes}: are these the lists of another Kinetics?",
        )
    return tuple(sorted(names))


def shared_films(list_a: str | Path, list_b: str | Path) -> tuple[str, ...]:
    """List the YouTube films that two lists share, of either form, in the order of their ids.

    Raises: UnreadableVideo where one is damaged; FileNotFoundError.
    """
    return tuple(sorted(_youtube_ids(Path(list_a)) & _youtube_ids(Path(list_b))))


# ----------------------------------------------------------------------------- lists


def _list_of(root: Path, split: str, classes: int) -> Path:
    return first_file(root, _folders(classes), _names(split, classes), f"the list of split {split!r}")


def _official_lists(root: Path, classes: int) -> Iterator[Path]:
    """Give the official lists that are there, the shortest first."""
    for split in ("val", "test", "train"):
        try:
            path = _list_of(root, split, classes)
        except FileNotFoundError:
            continue
        if _is_official(path) and "label" in _header(path):
            yield path


def _folders(classes: int) -> tuple[str, ...]:
    own = [f"{name}{suffix}" for name in ("kinetics", "kinetics-", "k") for suffix in (classes, f"{classes}_2020")]
    return (*own, *(f"{name}/annotations" for name in own), "", "annotations")


def _names(split: str, classes: int) -> tuple[str, ...]:
    prefixes = (f"kinetics{classes}_", f"kinetics_{classes}_", f"kinetics-{classes}_", f"k{classes}_", "")
    return tuple(f"{prefix}{name}.csv" for prefix in prefixes for name in _SPLITS[split])


def _header(path: Path) -> Sequence[str]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        return next(csv.reader([file.readline()]), [])


def _is_official(path: Path) -> bool:
    return "youtube_id" in _header(path)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the lines of an official list as tables, each with where it stands; raise where a column is missing."""
    missing = [name for name in _COLUMNS if name not in _header(path)]
    if missing:
        expected = f"expected {','.join(_COLUMNS)}. Is it of a split without labels?"
        raise UnreadableVideo(str(path), f"no column {', '.join(missing)}; {expected}")
    try:
        for number, line in enumerate(csv.DictReader(read_lines(path)), start=2):
            yield f"{path}:{number}", line
    except csv.Error as error:
        raise UnreadableVideo(str(path), f"not CSV ({error}): get it again") from error


def _clip(line: Mapping[str, str | None], where: str) -> _Clip:
    told = {name: (line.get(name) or "").strip() for name in (*_COLUMNS, "split")}
    empty = [name for name in _COLUMNS if not told[name]]
    if empty:
        raise UnreadableVideo(where, f"column {empty[0]!r}: found nothing; was the list cut off? Get it again")
    if not _ID.fullmatch(told["youtube_id"]):
        found = f"column 'youtube_id': found {told['youtube_id']!r}"
        raise UnreadableVideo(where, f"{found}, expected letters, digits, - and _")
    start, end = (_seconds(told[name], name, where) for name in ("time_start", "time_end"))
    return _Clip(f"{told['youtube_id']}_{start:06d}_{end:06d}", told["youtube_id"], told["label"], told["split"])


def _seconds(told: str, name: str, where: str) -> int:
    try:
        return int(float(told))
    except (ValueError, OverflowError) as error:
        raise UnreadableVideo(where, f"column {name!r}: found {told!r}, expected seconds") from error


def _youtube_id(key: str) -> str:
    return _TIMES.sub("", key)


def _youtube_ids(path: Path) -> set[str]:
    if "youtube_id" in _header(path):
        return {line["youtube_id"] for line in csv.DictReader(read_lines(path)) if line["youtube_id"]}
    return {_youtube_id(film.key) for film in listed_paths(path, path.parent, 10**6).films}


# ----------------------------------------------------------------------------- films


def _places(root: Path, split: str) -> dict[str, str]:
    """Find the clips by their names; where one is there twice, a replacement counts, then what lies with its split."""
    places: dict[str, str] = {}
    for path in films_below(root, _FOLDERS_BELOW):
        key = stem(path)
        if key not in places or _rank(path, root, split) < _rank(places[key], root, split):
            places[key] = path
    return places


def _rank(path: str, root: Path, split: str) -> tuple[bool, bool]:
    folders = Path(path).relative_to(root).parts[:-1]
    return not any("replacement" in name for name in folders), not any(name in _SPLITS[split] for name in folders)

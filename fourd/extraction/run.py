"""The whole way: find the inputs, leave out what is done, read ahead, encode, write, list."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fourd import run_folder
from fourd.extraction.config import ExtractConfig, settle
from fourd.extraction.encoding import Encoded, Encoder, UnstorableFeatures
from fourd.extraction.folder import FeatureFolder
from fourd.extraction.index import DAMAGED, Entry
from fourd.extraction.inputs import Source, find_inputs
from fourd.extraction.progress import ExtractProgress
from fourd.extraction.reading import Chosen, End, ahead, read_all
from fourd.extraction.writing import Film, Writer
from fourd.parallel import find_device
from fourd.types import Backbone, ClipShape

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
FilmMaker = Callable[[Path, float], Film]
_FASTEST_FILM = 240.0  # pictures per second
_DEFAULTS = ExtractConfig()


def extract(
    paths: PathLike | Sequence[PathLike],
    out: PathLike,
    backbone: Backbone,
    config: ExtractConfig = _DEFAULTS,
    *,
    batch_size: int = 8,
    device: str = "auto",
    num_threads: int = 4,
    film: FilmMaker | None = None,
) -> tuple[Entry, ...]:
    """Encode videos and images of any length, one file of features each, and give a row for all that was found.

    paths: files, and folders that are searched. out: the folder of the results, `<key>.safetensors` and
    `index.parquet`; a key is the input's path from the folder that holds all inputs. The same call again does only
    what is missing, and other inputs may be added. batch_size: windows encoded at once, whichever inputs they come
    from; num_threads: of the decoder; film: what draws features beside their input when called with a path and a
    rate (`fourd.feature_film.FeatureFilm`). The backbone is moved to the device and set to evaluation.

    A file holds `features` (see `ExtractConfig.pooling` and `tensor_names`) and the times of each time step (see
    `fourd.extraction.writing.TIME_NAMES`). Which window a time step is taken from: see `fourd.windows.RULE`.
    Raises ValueError where config, backbone and folder do not go together, where features do not fit their type, and
    where nothing can be read; FileNotFoundError for a path without a file. A single bad input only has a row.
    """
    paths, out = [paths] if isinstance(paths, (str, os.PathLike)) else paths, Path(out)
    sources, others = find_inputs(paths, out)
    place = find_device(device)
    encoder = Encoder(backbone, settle(config, backbone, place), place, batch_size, with_grid=film is not None)
    with run_folder.alone_in(out):
        folder = FeatureFolder(out, encoder.config, backbone)
        sources = [folder.as_known(source) for source in sources]
        folder.index.entries.update({entry.key: entry for entry in others})
        _Extraction(folder, encoder, num_threads, film).run(sources)
    keys = sorted([source.key for source in sources] + [entry.key for entry in others])
    entries = tuple(folder.index.entries[key] for key in keys)
    if not any(entry.has_features for entry in entries):
        first = "; ".join(f"{entry.path} is {entry.status}" for entry in entries[:5])
        raise ValueError(f"none of {len(entries)} files can be read. The first: {first}")
    return entries


@dataclass(frozen=True)
class _Extraction:
    """Hold what all inputs share on their way to features."""

    folder: FeatureFolder
    encoder: Encoder
    num_threads: int
    film: FilmMaker | None

    def run(self, sources: Sequence[Source]) -> None:
        """Do what is not done yet; whatever happens, the index then says what is done."""
        missing = []
        try:
            for source in sources:
                entry = self.folder.done(source)
                if entry is None or not self._has_film(source):
                    missing.append(source)
                else:
                    self.folder.index.add(entry)
            log.info("%d of %d inputs are done, %d to do", len(sources) - len(missing), len(sources), len(missing))
            self._extract(missing)
        finally:
            self.folder.index.write()

    def _has_film(self, source: Source) -> bool:
        """Tell whether an input's film is there, if there is to be one."""
        return self.film is None or self.folder.film_of(source.key).exists()

    def _extract(self, sources: list[Source]) -> None:
        """Read, encode and write, the reading ahead of the rest."""
        pieces = read_all(sources, self.encoder.config, self.encoder.backbone.native_input, self.num_threads)
        read = ahead(pieces, 2 * self.encoder.batch_size)
        num_bytes = sum(source.num_bytes for source in sources)
        with ExtractProgress(len(sources), num_bytes, str(self.folder.out)) as progress, closing(read):
            self._write(self.encoder.run(read), progress)

    def _write(self, results: Iterable[Encoded | End], progress: ExtractProgress) -> None:
        """Put each window's tokens where they belong; leave nothing half written, whatever happens."""
        writers: dict[str, Writer] = {}
        problems: dict[str, str | None] = {}
        try:
            for item in results:
                if isinstance(item, Encoded):
                    chosen, key = item.piece.chosen, item.piece.chosen.source.key
                    problems.setdefault(key, item.problem)
                    problems[key] = problems[key] or item.problem
                    if problems[key]:
                        continue
                    if key not in writers:
                        writers[key] = self._begin(chosen)
                    num_frames = writers[key].add(item)
                    share = item.piece.window.frames[-1] / len(chosen.times_s)
                    progress.frames(num_frames, share, chosen.source.num_bytes)
                elif problem := problems.pop(item.source.key, None):
                    if item.source.key in writers:
                        writers.pop(item.source.key).discard()
                    self._refuse(item.source, problem)
                    progress.done(item.source.num_bytes)
                else:
                    self._end(item, writers)
                    progress.done(item.source.num_bytes)
        finally:
            for writer in writers.values():
                writer.discard()

    def _begin(self, chosen: Chosen) -> Writer:
        """Begin the file of an input, and its film if there is to be one."""
        config, backbone, key = self.encoder.config, self.encoder.backbone, chosen.source.key
        assert config.num_frames is not None  # `settle` has put it in
        shape = backbone.feature_shape(ClipShape(config.num_frames, *chosen.framing.size))
        film = self.film(self.folder.film_of(key), min(chosen.fps or 1.0, _FASTEST_FILM)) if self.film else None
        patch = backbone.native_input.patch[0]
        return Writer(chosen, shape, config, patch, self.folder.path_of(key), self.folder.about, film)

    def _refuse(self, source: Source, problem: str) -> None:
        """List an input without features."""
        log.warning("%s has no features: %s", source.path, problem)
        self.folder.refuse(source, problem)

    def _end(self, end: End, writers: dict[str, Writer]) -> None:
        """Finish an input, or list why it has no features."""
        key, path = end.source.key, end.source.path
        if key not in writers:
            self._refuse(end.source, end.problem or "no frame in it")
            return
        writer = writers.pop(key)
        try:
            entry = writer.finish(end)
        except UnstorableFeatures as problem:
            writer.discard()
            self._refuse(end.source, str(problem))
            return
        self.folder.index.add(entry)
        if entry.status.startswith(DAMAGED):
            log.warning("%s is %s", path, entry.status)

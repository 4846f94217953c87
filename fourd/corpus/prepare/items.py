"""Do a work item: encode its spans apart from this process, and commit what came of them."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fourd.corpus.prepare.config import PrepareConfig
from fourd.corpus.prepare.encode import PieceRow, SpanJob, SpanResult, encode_span, unusable_span
from fourd.corpus.prepare.folder import CorpusFolder, commit, scratch
from fourd.corpus.prepare.looks import HASH_BYTES
from fourd.corpus.prepare.plan import Item, Span, span_s
from fourd.isolation import Failure, Limits, isolated_map

ROWS = pa.schema(
    [
        ("key", pa.string()),
        ("path", pa.string()),
        ("number", pa.int32()),
        ("start_s", pa.float64()),
        ("num_frames", pa.int32()),
        ("dropped", pa.string()),
        ("unusable", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("offset", pa.int64()),
        ("num_bytes", pa.int64()),
        ("crc32", pa.uint32()),
        ("motion", pa.float32()),
        ("looks", pa.binary(HASH_BYTES)),
    ]
)

_TRIES = 2
"""A span whose worker dies is tried once more, since not every death is the film's fault."""

_MOST_TIMES = 24
"""How many times longer than an item's length gives it a long span may take at most: its length is what a file claims.
"""


@dataclass(frozen=True)
class ItemJob:
    """Say what to do, where, and what one span may cost."""

    out: Path
    root: str
    item: Item
    config: PrepareConfig
    limits: Limits

    @property
    def folder(self) -> CorpusFolder:
        """Give the folder of the corpus."""
        return CorpusFolder(self.out)


def do_item(job: ItemJob) -> int:
    """Encode an item unless that was done, and give its number. Two workers that do the same item do no harm."""
    done = job.folder.item(job.item.number, ".parquet")
    if not done.exists():
        with scratch(job.folder) as place:
            _commit(job, place, _encode(job, place))
    return job.item.number


def _encode(job: ItemJob, place: Path) -> list[SpanResult]:
    """Encode all spans, each into its own file, and each anew where its worker died."""
    results: dict[int, SpanResult | Failure] = {}
    waiting = dict(enumerate(job.item.spans))
    for _ in range(_TRIES):
        results |= _attempt(job, place, waiting)
        waiting = {n: span for n, span in waiting.items() if isinstance(results[n], Failure)}
    for number, span in waiting.items():
        failure = results[number]
        assert isinstance(failure, Failure)
        _span_path(place, number).write_bytes(b"")
        results[number] = SpanResult(unusable_span(span, job.config, failure.reason), 0.0)
    return [result for _, result in sorted(results.items()) if isinstance(result, SpanResult)]


def _attempt(job: ItemJob, place: Path, spans: dict[int, Span]) -> dict[int, SpanResult | Failure]:
    if not spans:
        return {}
    longest = max(span_s(span, job.config) / job.config.item_s for span in spans.values())
    limits = replace(job.limits, seconds=job.limits.seconds * min(max(1.0, longest), _MOST_TIMES))
    jobs = [SpanJob(job.root, span, job.config, _span_path(place, number)) for number, span in spans.items()]
    with closing(isolated_map(encode_span, jobs, 1, limits)) as done:
        return dict(zip(spans, (result for _, result in done), strict=True))


def _span_path(place: Path, number: int) -> Path:
    return place / f"{number}.mp4s"


def _commit(job: ItemJob, place: Path, results: Sequence[SpanResult]) -> None:
    """Join the spans' files, then write the rows, which name that file, and whose being there says that all is done."""
    joined, rows = place / "item.mp4s", list[PieceRow]()
    with joined.open("wb") as file:
        for number, result in enumerate(results):
            start = file.tell()
            rows += [replace(row, offset=row.offset + start) for row in result.rows]
            with _span_path(place, number).open("rb") as span:
                shutil.copyfileobj(span, file, 2**20)
    data = job.folder.item(job.item.number, f"-{uuid.uuid4().hex}.mp4s")
    commit(joined, data)
    about = {"data": data.relative_to(job.folder.work).as_posix(), "cpu_s": str(sum(r.cpu_s for r in results))}
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=ROWS.with_metadata(about))
    pq.write_table(table, place / "item.parquet", compression="zstd")
    commit(place / "item.parquet", job.folder.item(job.item.number, ".parquet"))


@dataclass(frozen=True)
class DoneItems:
    """Hold the rows of all items, each with the file that its pieces lie in (`data`, below the work folder)."""

    rows: pa.Table
    cpu_s: float


def read_items(folder: CorpusFolder, num_items: int) -> DoneItems:
    """Read what came of all items, in their order."""
    tables, cpu_s = [pa.Table.from_pylist([], ROWS.append(_DATA))], 0.0
    for number in range(num_items):
        table = pq.read_table(folder.item(number, ".parquet"), schema=ROWS)
        about = pq.read_metadata(folder.item(number, ".parquet")).metadata
        data = pa.array([about[b"data"].decode()] * len(table), pa.string()).dictionary_encode()
        tables.append(table.append_column(_DATA, data).replace_schema_metadata(None))
        cpu_s += float(about[b"cpu_s"])
    return DoneItems(pa.concat_tables(tables), cpu_s)


_DATA = pa.field("data", pa.dictionary(pa.int32(), pa.string()))

"""A page of pictures with labels drawn in, in one file that holds all it needs."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fourd.doctor.drawing import draw_clip
from fourd.doctor.examine import Report, SplitReport
from fourd.doctor.looking import Look

_STYLE = """body{background:#181a1e;color:#e2e5e9;font:14px/1.5 system-ui,sans-serif;margin:2rem auto;
max-width:1500px;padding:0 1rem}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .3rem}figure{margin:1rem 0}figcaption{color:#aab0b8}
img{max-width:100%;display:block}.fault,.broken{color:#ff7b6b}.odd,.gaps{color:#ffc24b}.good{color:#4cc9a7}
pre{white-space:pre-wrap;background:#24272d;padding:.8rem;border-radius:4px}"""
_CLASS = {"good": "good", "usable with gaps": "gaps", "broken": "broken"}


@dataclass(frozen=True)
class Figure:
    """Hold a picture with its caption."""

    split: str
    caption: str
    told: tuple[tuple[str, str], ...]
    picture: bytes


def figure(split: SplitReport, look: Look) -> Figure:
    """Draw a clip while it is in memory; one that could not be loaded has no picture."""
    told = tuple((finding.level, f"{finding.check}: {finding.told}") for finding in look.findings if finding.told)
    clip = look.loaded
    if clip is None:
        return Figure(split.split, look.key, (("fault", look.error),), b"")
    height, width = clip.video.shape[2:]
    parts = [look.key, f"{width} x {height}", f"frames {look.frames[0]} to {look.frames[-1]}"]
    if clip.depth is not None and bool(clip.depth.valid.any()):
        known = clip.depth.metres[clip.depth.valid]
        parts.append(f"depth {float(known.min()):.3g} to {float(known.max()):.3g} m, near is bright")
    if clip.label is not None:
        index = int(clip.label.index[0])
        names = split.class_names or ()
        parts.append(f"class {index}" + (f": {names[index]}" if 0 <= index < len(names) else ""))
    return Figure(split.split, ", ".join(parts), told, _encoded(draw_clip(clip)))


def page(report: Report, told: str, figures: list[Figure]) -> str:
    """Write the page: the verdict, all that was told, and the figures of each split."""
    about, verdict = report.reader.about, report.verdict
    parts = [
        f"<h1>{html.escape(about.title)}: <span class={_CLASS[verdict.word]}>{verdict.word}</span></h1>",
        f"<p>Licence: {html.escape(about.licence)}</p>",
        f"<pre>{html.escape(told)}</pre>",
        "<p>Points: a dot is visible, a ring is hidden, with a trail of the last frames. Grey depth is not known. "
        "Cameras: the first is white, lines point where they look.</p>",
    ]
    for split in report.splits:
        shown = [_html(drawn) for drawn in figures if drawn.split == split.split]
        parts += [f"<h2>{html.escape(split.split)}: {len(shown)} clips</h2>", *shown] if shown else []
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(about.title)}</title>'
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</html>\n"


def write_page(path: Path, report: Report, told: str, figures: list[Figure]) -> None:
    """Write the page to a file."""
    path.write_text(page(report, told, figures), encoding="utf-8")


def _html(drawn: Figure) -> str:
    told = "".join(f"<br><span class={level}>{html.escape(words)}</span>" for level, words in drawn.told)
    source = f"data:image/webp;base64,{base64.b64encode(drawn.picture).decode()}"
    picture = f'<img alt="" src="{source}">' if drawn.picture else ""
    return f"<figure>{picture}<figcaption>{html.escape(drawn.caption)}{told}</figcaption></figure>"


def _encoded(image: Image.Image) -> bytes:
    held = io.BytesIO()
    image.save(held, "WEBP", quality=85)
    return held.getvalue()

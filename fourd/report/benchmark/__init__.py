"""What `fourd evaluate` shows: a table with intervals and ranks, plots, wins and failures; from rows and a story."""

from fourd.report.benchmark.figures import headlines
from fourd.report.benchmark.gallery import GalleryPick, choose_gallery
from fourd.report.benchmark.page import write_benchmark
from fourd.report.benchmark.story import BenchmarkStory, ContenderStory, EntryStory
from fourd.report.benchmark.table import markdown, print_benchmark, summary_table

__all__ = [
    "BenchmarkStory",
    "ContenderStory",
    "EntryStory",
    "GalleryPick",
    "choose_gallery",
    "headlines",
    "markdown",
    "print_benchmark",
    "summary_table",
    "write_benchmark",
]

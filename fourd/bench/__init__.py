"""Measure: every backbone beside the code that its weights were published with."""

from fourd.bench.backbones import BenchConfig, bench_backbones
from fourd.bench.table import Row, markdown, terminal_table, write_table

__all__ = ["BenchConfig", "Row", "bench_backbones", "markdown", "terminal_table", "write_table"]

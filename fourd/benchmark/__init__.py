"""The benchmark: any encoder on every entry of a suite, frozen and finetuned, by one protocol.

A suite is data (`suite`), who is measured comes from names (`contenders`), what there is to do is a list of units
(`units`), each done on its own and once (`work`), and all of them together are a matrix (`matrix`).
"""

from fourd.benchmark.contenders import Contender, resolve
from fourd.benchmark.matrix import Matrix, run_matrix
from fourd.benchmark.suite import Entry, Exam, Suite, Training

__all__ = ["Contender", "Entry", "Exam", "Matrix", "Suite", "Training", "resolve", "run_matrix"]

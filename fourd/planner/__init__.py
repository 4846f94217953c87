"""Say what a training takes before it is started: memory, time, money, and the layout that is fastest."""

from fourd.planner.gpus import GPUS, Gpu, find_gpu
from fourd.planner.matrix import MatrixConfig, make_matrix
from fourd.planner.measure import Layout, measure
from fourd.planner.memo import memory_of
from fourd.planner.plan import Plan, PlanConfig, make_plan
from fourd.planner.text import as_json, as_text

__all__ = [
    "GPUS",
    "Gpu",
    "Layout",
    "MatrixConfig",
    "Plan",
    "PlanConfig",
    "as_json",
    "as_text",
    "find_gpu",
    "make_matrix",
    "make_plan",
    "measure",
    "memory_of",
]

"""From a description to a model on one device or on many: ranks, sharding, precision, first numbers.

Models know nothing of it: blocks are found where every backbone keeps them, in `blocks`.
"""

from fourd.parallel.devices import Precision, autocast, find_device, reproducible, to_device, uncompiled
from fourd.parallel.export import give_up_gathered, whole_state
from fourd.parallel.filling import sliced_filling
from fourd.parallel.materialise import build_blank, fill, materialise, require_finite
from fourd.parallel.ranks import Ranks, join
from fourd.parallel.settings import ParallelConfig
from fourd.parallel.sharding import arrange, transformer_blocks

__all__ = [
    "ParallelConfig",
    "Precision",
    "Ranks",
    "arrange",
    "autocast",
    "build_blank",
    "fill",
    "find_device",
    "give_up_gathered",
    "join",
    "materialise",
    "reproducible",
    "require_finite",
    "sliced_filling",
    "to_device",
    "transformer_blocks",
    "uncompiled",
    "whole_state",
]

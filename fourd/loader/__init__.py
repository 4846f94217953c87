"""Batches as a function of (seed, step): which clip, in which order, with which random numbers."""

from fourd.loader.batches import Batches, Loaded, Quarantined, batches, in_order, once, shared
from fourd.loader.mixing import Mixing, mixing
from fourd.loader.order import MIXTURE_PERIOD, Draw, Order, draw
from fourd.loader.parts import First, Thinned
from fourd.loader.permutation import permute, unpermute
from fourd.loader.shuffle import BlockShuffle, GlobalShuffle, Shuffle
from fourd.loader.views import masked_views

__all__ = [
    "MIXTURE_PERIOD",
    "Batches",
    "BlockShuffle",
    "Draw",
    "First",
    "GlobalShuffle",
    "Loaded",
    "Mixing",
    "Order",
    "Quarantined",
    "Shuffle",
    "Thinned",
    "batches",
    "draw",
    "in_order",
    "masked_views",
    "mixing",
    "once",
    "permute",
    "shared",
    "unpermute",
]

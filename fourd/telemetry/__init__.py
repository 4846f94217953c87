"""What a run says of itself: numbers on disk and on boards, a line on the screen, its speed, memory, norms, its life.

Nothing here knows of models, checkpoints or loaders: it is handed numbers, modules and optimisers.
"""

from fourd.telemetry.heartbeat import HUNG, Watchdog
from fourd.telemetry.memory import memory_gb, reset_peak
from fourd.telemetry.norms import LayerNorms, layer_group, layer_norms
from fourd.telemetry.progress import StepProgress, duration
from fourd.telemetry.records import JsonLines
from fourd.telemetry.sinks import Silent, Telemetry
from fourd.telemetry.speed import StepClock, matrix_rate

__all__ = [
    "HUNG",
    "JsonLines",
    "LayerNorms",
    "Silent",
    "StepClock",
    "StepProgress",
    "Telemetry",
    "Watchdog",
    "duration",
    "layer_group",
    "layer_norms",
    "matrix_rate",
    "memory_gb",
    "reset_peak",
]

"""What a run is: everything that decides its result, and how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass, field

from fourd.loader import GlobalShuffle, Shuffle
from fourd.optim import OptimConfig
from fourd.parallel import ParallelConfig, Precision
from fourd.types import DatasetConfig, ObjectiveConfig

FREE_TO_CHANGE = (
    *(
        "device",
        "deterministic",
        "num_workers",
        "worker_timeout_s",
        "max_quarantined",
        "log_every",
        "save_every",
        "init",
    ),
    *("parallel", "keep_checkpoints", "hang_timeout_s", "norms_every", "wandb"),
    *(
        f"{data}*.{name}"
        for data in ("data", "held_out")
        for name in ("folder", "weights", "cache", "root", "index", "index_path", "device")
    ),
)
"""Fields that change nothing of the result, beyond rounding and, on another number of ranks, what each of them drops
out; of files it is the content that must not change."""


@dataclass(frozen=True)
class RunConfig:
    """Describe a run in full. A recipe is a function that returns one of these."""

    objective: ObjectiveConfig
    data: DatasetConfig
    held_out: DatasetConfig | None = None
    """Clips that are never trained on; their loss is taken along the way."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    steps: int = 1000
    batch_size: int = 32
    """Samples of a step, of all ranks together."""
    repeat: int = 1
    """Masked views of each decoded clip; a batch of `batch_size` samples then holds `batch_size / repeat` clips. MAE-ST
    trains with 4; not from the 4DS paper."""
    shuffle: Shuffle = field(default_factory=GlobalShuffle)
    seed: int = 0
    init: str = ""
    """Weights of the backbone to start from, a run's file or anything else that `fourd.load` takes; empty starts from
    random ones."""
    precision: Precision = "bf16"
    """Of the arithmetic; the weights that are trained stay float32."""
    device: str = "auto"
    deterministic: bool = False
    """Run every sum in a fixed order on a GPU too, so that a resumed run is the same bit for bit; it is slower. A CPU
    always does."""
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    """How the run is laid over the processes that `torchrun` starts."""
    num_workers: int = 0
    """Processes that read ahead, for each rank; 0 reads within the training process."""
    worker_timeout_s: float = 1800.0
    """Stop where a worker gives nothing for so long: it hangs. Not from the paper."""
    hang_timeout_s: float = 1800.0
    """End the process, with its stacks written down, where a step, a read or a save takes so long; 0 waits forever.
    Not from the paper."""
    max_quarantined: float = 0.01
    """Stop where more than this share of the clips drawn (a thousand at least) could not be decoded. Not from the
    paper."""
    max_norm_sigmas: float = 6.0
    """Skip a step whose gradient is larger, on a logarithmic scale, than the recent ones' mean by so many deviations; 0
    skips only what is not finite. Not from the paper."""
    max_skipped: int = 3
    """Where so many steps in a row were skipped, go back to the last good checkpoint and leave their batches out. Not
    from the paper."""
    rollback_distance: int = 1000
    """Stop where the run would go back again within so many steps. Not from the paper."""
    log_every: int = 10
    norms_every: int = 100
    """Steps between two looks at the norm of each layer's weights and of its last update."""
    save_every: int = 500
    keep_checkpoints: int = 2
    held_out_every: int = 250
    num_held_out: int = 64
    """Clips to take the held-out loss on."""
    wandb: str = ""
    """Project of Weights & Biases to report to as well; empty reports to nobody."""

    def __post_init__(self) -> None:
        """Refuse counts that no run can have."""
        least = {"steps": 1, "batch_size": 1, "repeat": 1, "seed": 0, "num_workers": 0, "max_skipped": 1}
        least |= {"log_every": 1, "save_every": 1, "held_out_every": 1, "num_held_out": 1, "norms_every": 1}
        least |= {"keep_checkpoints": 1, "rollback_distance": 0}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"RunConfig.{name} is {getattr(self, name)}: expected {number} or more")
        if self.batch_size % self.repeat:
            raise ValueError(
                f"RunConfig.batch_size is {self.batch_size} samples with {self.repeat} views of each clip: expected a "
                "multiple of repeat"
            )
        if not 0 <= self.max_quarantined <= 1:
            raise ValueError(f"RunConfig.max_quarantined is {self.max_quarantined}: expected a share, 0 to 1")
        for name in ("worker_timeout_s", "hang_timeout_s", "max_norm_sigmas"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"RunConfig.{name} is {getattr(self, name)}: expected 0 (no limit) or more")

    @property
    def clips_per_step(self) -> int:
        """Count the clips that are decoded for a step, by all ranks."""
        return self.batch_size // self.repeat

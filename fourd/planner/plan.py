"""From a wish (this model, on these GPUs) to a plan that says what it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from fourd.flops import StepFlop
from fourd.parallel import Precision, build_blank
from fourd.parallel.settings import Recompute
from fourd.planner.cost import STATE_BYTES, Assumptions
from fourd.planner.gpus import CPU, Gpu, find_gpu
from fourd.planner.ledger import Peak
from fourd.planner.memo import flop_of
from fourd.planner.search import Job, Setting, fastest, fewest
from fourd.types import ObjectiveConfig

_HOUR = 3600


@dataclass(frozen=True)
class PlanConfig:
    """Say what is to be planned. None of the values is from the paper."""

    model: str = "B"
    """A size, S B L H G e or j, pretrained by SimpleMAE as published; or the dotted path of a recipe of your own, a
    function that returns a RunConfig or a SimpleMAEConfig."""
    gpus: int = 1
    """Number of GPUs."""
    gpu: str = "h200"
    """Kind of GPU: b200 h200 h100 a100-80 a100-40 l40s l4 rtx-4090 mi300x, or cpu with the two numbers below."""
    batch: int = 256
    """Samples of a step, on all GPUs together. A recipe's own where one is named and this is left out."""
    clips: float = 1e9
    """Samples of the whole run."""
    fit: bool = False
    """Search for the smallest number of GPUs that trains it; --gpus is not looked at."""
    utilisation: float = 0.5
    """Share of the GPU's dense rate that a step reaches; divide a run's clips/s by the plan's to learn yours."""
    price: float | None = None
    """Money for one GPU for one hour."""
    gpu_memory_gb: float | None = None
    """Memory of a GPU, in 1e9 bytes, in place of its maker's number."""
    gpu_tflops: float | None = None
    """Rate of dense products of a GPU, in 1e12 per second, in place of its maker's number for bf16."""
    reserve: float = 0.07
    """Share of the memory left free: for CUDA itself, scratch space of kernels, gaps between tensors."""
    network_gb_s: float = 50.0
    """What each GPU sends to other machines, in 1e9 bytes per second."""
    repeat: int = 1
    """Masked views of each decoded clip."""
    decode_clips_per_s: float = 26.0
    """Clips that one core reads, decodes and resizes in a second; by default from prepared shards on one core of an AMD
    EPYC, 224 pixels (docs/data.md). `fourd data bench CORPUS` measures yours."""
    clip_mb: float = 1.86
    """What is read for one clip, in 1e6 bytes; by default a piece of prepared shards of 30 s (docs/data.md)."""
    precision: Precision = "bf16"
    """Of the arithmetic."""
    reduce: Precision = "fp32"
    """Precision in which gradients are added up over ranks."""
    json: bool = False
    """Print one JSON document and nothing else."""

    def __post_init__(self) -> None:
        """Refuse what cannot be planned."""
        least = {"gpus": 1, "batch": 1, "repeat": 1}
        for name, number in least.items():
            if getattr(self, name) < number:
                raise ValueError(f"--{name} is {getattr(self, name)}: expected {number} or more")
        if self.batch % self.repeat:
            raise ValueError(f"--batch is {self.batch} samples with --repeat {self.repeat}: expected a multiple of it")
        for name in ("clips", "network_gb_s", "decode_clips_per_s", "clip_mb", "gpu_memory_gb", "gpu_tflops", "price"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value}: expected more than 0")
        for name, below in (("utilisation", 1.0), ("reserve", 0.99)):
            if not 0 <= getattr(self, name) <= below or (name == "utilisation" and not self.utilisation):
                least_share = "above 0" if name == "utilisation" else "from 0"
                raise ValueError(
                    f"--{name} is {getattr(self, name)}: expected a share, {least_share} and at most {below}"
                )
        if self.precision == "fp32" and self.gpu_tflops is None:
            raise ValueError(
                "--precision fp32: the rates that are listed are of bf16; say what yours reaches, with --gpu-tflops"
            )


@dataclass(frozen=True)
class Memory:
    """Hold the bytes of one rank at the moment of a step at which it takes most, by kind."""

    at: str
    """What is going on at that moment."""
    weights: int
    gradients: int
    moments: int
    activations: int
    gathered: int
    """Blocks put together from all ranks, buffers that they and gradients travel in, copies of weights in bf16."""
    other: int
    total: int
    usable: float


@dataclass(frozen=True)
class Plan:
    """Hold all that is known of a run before it is started. Bytes are bytes; times are seconds unless they say."""

    model: str
    parameters: int
    flop_per_clip: float
    gpu: str
    gpu_source: str
    gpus: int
    batch: int
    shard: int
    recompute: Recompute
    parts: int
    clips_per_part: int
    memory: Memory
    flop_per_clip_with_recompute: float
    utilisation: float
    compute_s_per_step: float
    traffic_s_per_step: float
    clips_per_s: float
    clips: float
    gpu_hours: float
    days: float
    price: float | None
    cost: float | None
    checkpoint_bytes: float
    unique_clips_per_s: float
    read_bytes_per_s: float
    decode_cores: float
    decode_clips_per_s: float
    notes: tuple[str, ...] = field(default=())


def make_plan(config: PlanConfig, objective: ObjectiveConfig) -> Plan:
    """Plan a run; raise ValueError where no setting fits, naming the smallest number of GPUs that would do."""
    gpu = find_gpu(config.gpu, config.gpu_memory_gb, config.gpu_tflops)
    if not config.fit and config.batch < config.gpus:
        raise ValueError(
            f"--batch {config.batch} has fewer clips than there are --gpus {config.gpus}: expected one for each at "
            "least"
        )
    job = _job(config, objective, gpu)
    gpus = fewest(job) if config.fit else config.gpus
    found = fastest(job, gpus)
    if found is None:
        enough = fewest(job)
        raise ValueError(
            f"{config.model} in batches of {config.batch} does not fit on {gpus} {gpu.name}: no setting does, even "
            f"with whole blocks recomputed; {enough} are the fewest that do (--gpus {enough})"
        )
    return _write_down(config, job, found)


def _job(config: PlanConfig, objective: ObjectiveConfig, gpu: Gpu) -> Job:
    flop: dict[Recompute, StepFlop] = {again: flop_of(objective, again) for again in get_args(Recompute)}
    return Job(
        objective,
        sum(parameter.numel() for parameter in build_blank(objective).parameters()),
        flop,
        config.batch,
        gpu,
        gpu.memory_gb * 1e9 * (1 - config.reserve),
        config.precision,
        config.reduce,
        Assumptions(config.utilisation, config.network_gb_s),
    )


def _write_down(config: PlanConfig, job: Job, found: tuple[Setting, Peak]) -> Plan:
    setting, peak = found
    parallel = setting.parallel
    clips_per_s = config.batch / setting.time.seconds
    gpu_hours = config.clips / clips_per_s * setting.gpus / _HOUR
    unique = clips_per_s / config.repeat
    return Plan(
        model=config.model,
        parameters=job.parameters,
        flop_per_clip=job.flop["none"].per_clip(setting.clips),
        gpu=job.gpu.name,
        gpu_source=job.gpu.source,
        gpus=setting.gpus,
        batch=config.batch,
        shard=parallel.shard,
        recompute=parallel.recompute,
        parts=parallel.parts,
        clips_per_part=setting.clips,
        memory=Memory(peak.phase, **peak.by_kind, total=peak.total, usable=job.memory_bytes),
        flop_per_clip_with_recompute=job.flop[parallel.recompute].per_clip(setting.clips),
        utilisation=config.utilisation,
        compute_s_per_step=setting.time.compute_s,
        traffic_s_per_step=setting.time.traffic_s,
        clips_per_s=clips_per_s,
        clips=config.clips,
        gpu_hours=gpu_hours,
        days=gpu_hours / setting.gpus / 24,
        price=config.price,
        cost=None if config.price is None else gpu_hours * config.price,
        checkpoint_bytes=float(job.parameters * STATE_BYTES),
        unique_clips_per_s=unique,
        read_bytes_per_s=unique * config.clip_mb * 1e6,
        decode_cores=unique / config.decode_clips_per_s,
        decode_clips_per_s=config.decode_clips_per_s,
        notes=_notes(job, setting),
    )


def _notes(job: Job, setting: Setting) -> tuple[str, ...]:
    """Say what a reader of the plan should know beside its numbers."""
    notes = []
    if job.batch % setting.gpus:
        notes.append(
            f"{setting.gpus} GPUs do not divide batches of {job.batch}: some have a clip less, and wait for the others"
        )
    if setting.time.traffic_s > setting.time.compute_s:
        notes.append("traffic between GPUs takes longer than arithmetic: a larger batch would make better use of them")
    if job.gpu.name == CPU:
        notes.append(
            "on a CPU the trainer lets freed memory stay with the process, for speed: runs held up to 35% more than "
            "their tensors (results/plan_memory.md)"
        )
    return tuple(notes)

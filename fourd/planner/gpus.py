"""What accelerators hold and how fast they multiply, from their makers' own pages."""

from __future__ import annotations

from dataclasses import dataclass, replace

_NVIDIA = "https://www.nvidia.com/en-us/data-center"


@dataclass(frozen=True)
class Gpu:
    """Describe an accelerator and the machine it usually stands in.

    memory_gb: 1e9 bytes, as the maker counts. tflops: dense bf16 products with float32 sums, 1e12 per second; makers
    print twice as much for sparse ones. per_node: accelerators of one machine. link_gb_s: what one of them sends to the
    others of its machine, 1e9 bytes per second in one direction, which is half of what makers print.
    """

    name: str
    memory_gb: float
    tflops: float
    per_node: int
    link_gb_s: float
    source: str


_ADA = "https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf"
_A100 = f"{_NVIDIA}/a100/"
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("b200", 180.0, 2250.0, 8, 900.0, f"{_NVIDIA}/hgx/"),
        Gpu("h200", 141.0, 989.0, 8, 450.0, f"{_NVIDIA}/h200/"),
        Gpu("h100", 80.0, 989.0, 8, 450.0, f"{_NVIDIA}/h100/"),
        Gpu("a100-80", 80.0, 312.0, 8, 300.0, _A100),
        Gpu("a100-40", 40.0, 312.0, 8, 300.0, _A100),
        Gpu("l40s", 48.0, 362.0, 8, 32.0, f"{_NVIDIA}/l40s/"),
        Gpu("l4", 24.0, 121.0, 8, 32.0, f"{_NVIDIA}/l4/"),
        Gpu("rtx-4090", 24.0, 165.2, 1, 32.0, _ADA),
        Gpu(
            "mi300x", 192.0, 1307.4, 8, 448.0, "https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html"
        ),
    )
}
CPU = "cpu"


def find_gpu(name: str, memory_gb: float | None = None, tflops: float | None = None) -> Gpu:
    """Look an accelerator up, some of its numbers replaced; raise ValueError for one that is not known.

    "cpu" is a processor, of which both numbers have to be given.
    """
    if name == CPU:
        if memory_gb is None or tflops is None:
            raise ValueError(
                "--gpu cpu: processors differ too much to be listed; say what yours has, with --gpu-memory-gb and "
                "--gpu-tflops (`fourd pretrain` measures the latter at the start of a run)"
            )
        return Gpu(CPU, memory_gb, tflops, 1, 10.0, "as given")
    if name not in GPUS:
        raise ValueError(f"--gpu {name}: not known; expected one of {', '.join([*GPUS, CPU])}")
    known = GPUS[name]
    return replace(known, memory_gb=memory_gb or known.memory_gb, tflops=tflops or known.tflops)

"""Do many tasks at once: in this process's threads, or on the machines of a Ray or Dask cluster, by one function.

A task must be safe to do twice, since a cluster repeats what was lost with a machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeVar

import joblib

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Workers:
    """Say who works."""

    backend: Literal["local", "ray", "dask"] = "local"
    """This machine, or a cluster of Ray or Dask. All its machines must see the films and --out under the same names."""
    address: str | None = None
    """The cluster's: of Ray as for ray.init ("auto" finds it), of Dask the scheduler's (tcp://host:8786). None starts
    one of `workers` processes on this machine."""
    workers: int | None = None
    """How many tasks are done at once; None is one for each processor, of this machine or of the cluster."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"--workers is {self.workers}: expected 1 or more")
        if self.backend == "local" and self.address is not None:
            raise ValueError(f"--address {self.address} needs --backend ray or --backend dask")


def do_all(function: Callable[[TaskT], ResultT], tasks: Iterable[TaskT], workers: Workers) -> Iterator[ResultT]:
    """Give the results of `function`, which is importable by name, as they come; tasks are taken up as they are needed.

    The first exception ends the work, and is raised.
    Raises: ImportError, with the way out, where the backend is not installed.
    """
    with _BACKENDS[workers.backend](workers) as pool:
        calls = (joblib.delayed(function)(task) for task in tasks)
        with joblib.parallel_config(pool.name):  # joblib takes Dask from its config alone
            parallel = joblib.Parallel(pool.num_workers, batch_size=1, return_as=pool.return_as)
        if pool.return_as == "generator_unordered":
            yield from parallel(calls)
            return
        with parallel:
            while wave := list(islice(calls, _TASKS_PER_WAVE * pool.num_workers)):
                yield from parallel(wave)


_TASKS_PER_WAVE = 16
"""Tasks for each worker after which results are given, where joblib cannot give them one by one."""


@dataclass(frozen=True)
class _Pool:
    """Say by which backend joblib works, with how many, and how it can give results."""

    name: str
    num_workers: int
    return_as: Literal["generator_unordered", "list"] = "generator_unordered"


@contextmanager
def _local(workers: Workers) -> Iterator[_Pool]:
    """Use threads: each task keeps its heavy work in a process of its own, for which a thread waits."""
    yield _Pool("threading", workers.workers or os.cpu_count() or 1)


@contextmanager
def _ray(workers: Workers) -> Iterator[_Pool]:
    """Join a Ray cluster, or start one here that ends with the work."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ImportError("--backend ray needs Ray: pip install 'fourd[ray]'") from error
    register_ray()
    if workers.address:
        ray.init(workers.address, log_to_driver=False, logging_level=logging.WARNING)
    else:
        here = {"num_cpus": workers.workers, "include_dashboard": False}
        ray.init("local", log_to_driver=False, logging_level=logging.WARNING, **here)  # type: ignore[arg-type]
    try:
        yield _Pool("ray", workers.workers or int(ray.cluster_resources()["CPU"]), "list")
    finally:
        ray.shutdown()


@contextmanager
def _dask(workers: Workers) -> Iterator[_Pool]:
    """Join a Dask cluster, or start one here that ends with the work."""
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ImportError("--backend dask needs Dask: pip install 'fourd[dask]'") from error
    here = {"n_workers": workers.workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(workers.address) if workers.address else Client(**here) as client:
        yield _Pool("dask", workers.workers or sum(client.ncores().values()))


_BACKENDS = {"local": _local, "ray": _ray, "dask": _dask}

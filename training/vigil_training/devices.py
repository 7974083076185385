"""Where a run computes: a processor, one GPU or several, over one machine or more.

Lightning Fabric places tensors, starts processes, averages gradients and casts
(``docs/decisions/training-at-scale.md``). A run says its precision, since figures depend on it; how
many devices there are is the machine's matter, and changes no figure beyond rounding.
"""

import os
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor

from vigil.errors import ConfigurationError
from vigil_training.config import OptimisationConfig, Precision
from vigil_training.process_settings import keep_freed_memory

_FABRIC_PRECISION = {
    "float32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


class _Processes(NamedTuple):
    """How many processes a machine runs, and how many machines there are."""

    on_machine: int
    machines: int


def launch(options: OptimisationConfig, devices: int | None, *, outlines: bool) -> Fabric:
    """Return what places a run on this machine's devices; several processes have met by then.

    Parameters
    ----------
    options
        The run's precision and its batch, which is that of all processes together.
    devices
        How many GPUs, or processes where there is no GPU; started from here unless ``torchrun``
        did. None is what ``torchrun`` says, otherwise one.
    outlines
        Whether some steps train no decoder.

    Raises
    ------
    ConfigurationError
        If the precision, the number of devices and the batch do not go together.
    """
    cuda = torch.cuda.is_available()
    processes = _processes(devices)
    if cuda and processes.on_machine > torch.cuda.device_count():
        raise ConfigurationError(
            f"--devices is {processes.on_machine}, this machine has {torch.cuda.device_count()} GPU"
        )
    check_precision(options.precision, cuda)
    split_batch(options.batch, processes.on_machine * processes.machines)
    # Steps without outlines leave the decoder's weights without a gradient.
    several = DDPStrategy(find_unused_parameters=outlines)
    alone = processes.on_machine * processes.machines == 1
    fabric = Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=processes.on_machine,
        num_nodes=processes.machines,
        strategy="auto" if alone else several,
        precision=_FABRIC_PRECISION[options.precision],  # type: ignore[arg-type]
    )
    fabric.launch()
    if not cuda:
        keep_freed_memory()
        torch.set_num_threads(max(1, cores() // processes.on_machine))
    return fabric


def part(fabric: Fabric) -> None:
    """Let a run's processes end together: one that leaves early takes the others down."""
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()


def _processes(devices: int | None) -> _Processes:
    """Return what was asked for; ``torchrun`` has the last word where it started this process."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return _Processes(devices or 1, 1)
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if devices is not None and devices != local:
        raise ConfigurationError(
            f"--devices is {devices}, but torchrun started {local} processes: leave it out"
        )
    return _Processes(local, world // local)


def check_precision(precision: Precision, cuda: bool) -> None:
    """Refuse half precision with a scaled loss where no GPU is.

    Raises
    ------
    ConfigurationError
        If ``fp16`` is asked for on a processor.
    """
    if precision == "fp16" and not cuda:
        raise ConfigurationError(
            "optimisation.precision: fp16 needs a GPU; expected float32 or bf16 on a processor"
        )


def split_batch(batch: int, processes: int) -> int:
    """Return each process's part of a batch.

    Raises
    ------
    ConfigurationError
        If the batch cannot be split evenly, or leaves a process less than two pictures.
    """
    if batch % processes or batch < 2 * processes:
        raise ConfigurationError(
            f"optimisation.batch is {batch}, expected a multiple of the {processes} processes "
            "with at least two pictures for each"
        )
    return batch // processes


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_places(places: int, batch: int, rank: int, processes: int) -> NDArray[np.int64]:
    """Return which places of an epoch a process sees, in order; a last part batch is dropped.

    Each batch is cut into equal parts, so that step and epoch are made of the same pictures however
    many processes there are.
    """
    steps = places // batch
    parts = np.arange(steps * batch).reshape(steps, processes, split_batch(batch, processes))
    return parts[:, rank].ravel()


def gathered(fabric: Fabric, part: NDArray[np.float32], total: int) -> NDArray[np.float32]:
    """Return all processes' rows in order; process r brought the rows r, r + W, r + 2 W and so on.

    Parameters
    ----------
    part
        (n, …) this process's rows.
    total
        How many rows there are in all.
    """
    processes = fabric.world_size
    if processes == 1:
        return part
    padded = np.zeros((-(-total // processes), *part.shape[1:]), np.float32)
    padded[: len(part)] = part
    rows = fabric.all_gather(torch.from_numpy(padded).to(fabric.device))
    assert isinstance(rows, Tensor)
    return rows.cpu().numpy().swapaxes(0, 1).reshape(-1, *part.shape[1:])[:total]

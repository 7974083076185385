"""What the tests of several processes start: ``torchrun`` or nothing before it, a mode after it.

``steps``: three steps in float64. ``interrupted``: a run that is stopped in its second epoch.
``trained``: a whole run, or the rest of one.
"""

import sys
from pathlib import Path

import numpy as np
import torch


def steps(config: Path, out: Path) -> None:
    from vigil_training import devices
    from vigil_training.config import load_config
    from vigil_training.stopwatch import Stopwatch
    from vigil_training.train import prepare, training_step

    # Adam's first steps are the gradients' signs: in float32, rounding would decide some of them.
    devices._FABRIC_PRECISION["float32"] = "64-true"
    torch.set_default_dtype(torch.float64)
    run = prepare(load_config(config), None)
    fabric, losses = run.learner.fabric, []
    for batch in run.loader(run.epoch(0)):
        doubled = [tensor.double() for tensor in batch]
        loss = training_step(run, doubled, 1e-3, np.random.default_rng(0), Stopwatch())
        losses.append(fabric.all_reduce(loss, reduce_op="mean").item())
    if fabric.is_global_zero:
        torch.save({"losses": losses, "network": run.learner.network.state_dict()}, out)
    devices.part(fabric)


def interrupted(config: Path, out: Path) -> None:
    from vigil_training import train as module

    class PulledPlugError(Exception):
        pass

    predict = module.predict

    def pull(*arguments: object) -> object:
        if (out / "log.jsonl").read_text(encoding="utf-8"):
            raise PulledPlugError
        return predict(*arguments)

    module.predict = pull
    try:
        module.train(config, None, out)
    except PulledPlugError:
        sys.exit(0)


def trained(config: Path, out: Path) -> None:
    from vigil_training.train import train

    train(config, None, out, resume=(out / "checkpoint.pt").exists())


if __name__ == "__main__":
    {"steps": steps, "interrupted": interrupted, "trained": trained}[sys.argv[1]](
        Path(sys.argv[2]), Path(sys.argv[3])
    )

"""Imports torchvision, also where its wheel was built for another torch than the one installed.

torchvision's Python code registers a fake kernel for ``torchvision::nms`` as it is imported. Where
its compiled operators cannot be loaded (a wheel built for CUDA beside a torch for the CPU), the
operator does not exist and the import dies, though nothing used here needs it. Declaring the
operator's schema first is enough: see ``docs/decisions``.
"""

import importlib
from types import ModuleType

import torch

_NMS = "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a library that is collected takes its schema along


def import_torchvision_models() -> ModuleType:
    """Return ``torchvision.models``."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(_NMS)
    _declared.append(library)
    return importlib.import_module("torchvision.models")

"""Imports torchvision, also where its wheel was built for another torch than the one installed.

torchvision's Python code registers fake kernels for two of its compiled operators as it is
imported. Where those cannot be loaded (a wheel built for CUDA beside a torch for the CPU) the
operators do not exist and the import dies, though nothing used here needs them. Declaring their
schemas first is enough: see ``docs/decisions``.
"""

import importlib
from types import ModuleType

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a library that is collected takes its schemas along


def import_torchvision_models() -> ModuleType:
    """Return ``torchvision.models``."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        # A first attempt that fails registers nothing, so that the second may.
        if "torchvision::" not in str(error) or _declared:
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(operator + _SCHEMA)
    _declared.append(library)
    return importlib.import_module("torchvision.models")

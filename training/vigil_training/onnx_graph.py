"""From a torch network to one ONNX graph, and the proof that both compute the same."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from vigil.errors import BundleError

MODEL_NAME = "model.onnx"
OPSET = 17
GREATEST_DIFFERENCE = 1e-4


def to_onnx(network: nn.Module, output_names: Sequence[str], size: int) -> bytes:
    """Return the ONNX file of a network that takes (N, 1, size, size) and returns a tuple.

    Batch normalisation that follows a convolution is folded into it by the exporter; onnxruntime's
    basic optimisation (standard operators only, any processor) then folds the constants.
    """
    example = torch.zeros(2, 1, size, size)
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        # The exporter by tracing is deprecated but needs no further package; what it makes is
        # compared with torch below, so its warnings say nothing that is not measured.
        warnings.simplefilter("ignore")
        traced, folded = Path(folder) / "traced.onnx", Path(folder) / MODEL_NAME
        torch.onnx.export(
            network,
            (example,),
            traced,
            input_names=["image"],
            output_names=list(output_names),
            dynamic_axes={name: {0: "N"} for name in ("image", *output_names)},
            opset_version=OPSET,
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folded)
        onnxruntime.InferenceSession(str(traced), options, providers=["CPUExecutionProvider"])
        model = onnx.load(folded)
    with torch.no_grad():
        shapes = [tuple(value.shape) for value in network(example)]
    for output, shape in zip(model.graph.output, shapes, strict=True):
        for axis, length in enumerate(shape[1:], 1):
            output.type.tensor_type.shape.dim[axis].dim_value = length
    del model.graph.value_info[:]
    for domain in [entry for entry in model.opset_import if entry.domain]:
        model.opset_import.remove(domain)  # onnxruntime lists those it knows, used or not
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def parity(
    network: nn.Module, output_names: Sequence[str], graph: bytes, images: NDArray[np.float32]
) -> float:
    """Return the greatest difference between torch and onnxruntime over all outputs.

    Each is compared relative to its greatest value if that is over 1: logits, maps, embedding.

    Raises
    ------
    BundleError
        If it is over ``GREATEST_DIFFERENCE``.
    """
    with torch.no_grad():
        expected = [value.numpy() for value in network(torch.from_numpy(images))]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    found = session.run(list(output_names), {"image": images})
    greatest = 0.0
    for name, one, other in zip(output_names, expected, found, strict=True):
        difference = float(np.abs(one - other).max() / max(1.0, float(np.abs(one).max())))
        if not difference <= GREATEST_DIFFERENCE:
            raise BundleError(
                f"torch and onnxruntime differ by {difference:.1e} in {name}, "
                f"expected at most {GREATEST_DIFFERENCE:.0e}"
            )
        greatest = max(greatest, difference)
    return greatest

"""A graph's blocks in 8-bit integers, any of them, by onnxruntime's static quantisation."""

import re
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.shape_inference import quant_pre_process

from vigil.errors import BundleError
from vigil.processor import exact_integers
from vigil_training.quantization.films import Films

METHODS = {"MinMax": CalibrationMethod.MinMax, "Percentile": CalibrationMethod.Percentile}
_PERCENTILE = 99.999
_TYPES = ("Conv", "Add", "Clip", "Relu")
# What torch calls the blocks of EfficientNet, DenseNet and ResNet, and our decoder.
_BLOCK = re.compile(
    r".*?/(?:_blocks\.\d+|denselayer\d+|transition\d+|trunk\.\d+\.\d+|decoder)(?=/)"
)
_QUANTISED_PART = re.compile(r"/(?:backbone|decoder|trunk)/")


class Quantiser:
    """A graph with the ranges of its tensors, ready to be written with any blocks in integers.

    Attributes
    ----------
    blocks
        The names of its blocks, in the graph's order.
    """

    def __init__(self, network: Path, place: Path) -> None:
        self._prepared = place / "prepared.onnx"
        quant_pre_process(str(network), str(self._prepared), skip_symbolic_shape=True)
        self._nodes: dict[str, list[str]] = {}
        maker: dict[str, str] = {}
        for node in onnx.load(self._prepared).graph.node:
            if node.op_type in _TYPES and _QUANTISED_PART.search(node.name):
                # An activation belongs to the convolution before it, whatever it is called.
                own = _block_of(node.name)
                is_activation = node.op_type in ("Clip", "Relu")
                block = maker.get(node.input[0], own) if is_activation else own
                maker[node.output[0]] = block
                self._nodes.setdefault(block, []).append(node.name)
        self.blocks = tuple(self._nodes)
        if not self.blocks:
            raise BundleError(f"{network}: its graph names no backbone that could be quantised")

    def ranges(self, films: Films, calibration: str) -> TensorsData:
        """Return each tensor's range over films, by one of onnxruntime's methods."""
        method = METHODS[calibration]
        options = {"percentile": _PERCENTILE, "num_bins": 2048}
        with redirect_stdout(StringIO()):
            calibrator = create_calibrator(
                str(self._prepared),
                list(_TYPES),
                str(self._prepared.with_suffix(f".{calibration}.onnx")),
                method,
                extra_options=options if method is CalibrationMethod.Percentile else {},
            )
            calibrator.infer_session = session_of(calibrator.augmented_model_path)
            # It keeps all that one call is given: a few pictures at a time fit into memory.
            for start in range(0, len(films.pictures), 4):
                images = films.pictures[start : start + 4, np.newaxis].astype(np.float32)
                calibrator.collect_data(_Reader(images))
            return calibrator.compute_data()

    def write(self, ranges: TensorsData, blocks: Sequence[str]) -> bytes:
        """Return the graph with these blocks in integers."""
        nodes = [name for block in blocks for name in self._nodes[block]]
        if not nodes:  # which onnxruntime would take for all of them
            return self._prepared.read_bytes()
        quantiser = QDQQuantizer(
            onnx.load(self._prepared),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=list(_TYPES),
            extra_options={},
        )
        quantiser.quantize_model()
        content: bytes = quantiser.model.model.SerializeToString()
        return content


class _Reader:
    """Pictures, one by one, as onnxruntime's calibration asks for them."""

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        image = next(self._images, None)
        return None if image is None else {"image": image[np.newaxis]}


def _block_of(node: str) -> str:
    found = _BLOCK.match(node)
    return found.group() if found else node.rpartition("/")[0]


def session_of(network: str | bytes) -> onnxruntime.InferenceSession:
    """Return a session of one thread, in exact integer arithmetic."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    exact_integers(options)
    return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])

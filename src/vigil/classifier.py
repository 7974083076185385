"""The network behind onnxruntime: an input array to calibrated probabilities and maps."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vigil.bundle import Bundle
from vigil.errors import BundleError
from vigil.processor import (
    Network,
    NetworkChoice,
    choose_network,
    exact_integers,
    network_choice,
)

OUTPUTS = ("logits", "probabilities", "cams", "embedding")
OPTIONAL_OUTPUTS = ("attributes", "structures", "unfamiliarity")


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one forward pass says of one picture.

    Attributes
    ----------
    probabilities
        Finding key to calibrated probability.
    logits
        Finding key to logit, before calibration.
    cams
        (findings, h, w) float32, class activation maps in the bundle's order of findings: what
        each place adds to the logit, so that a map's mean is the logit without its bias; they
        cover the whole square input.
    embedding
        (features,) float32.
    attributes
        Attribute name to probability, for the gate.
    structures
        Structure name to (h, w) float32, the probability of each place to belong to it; they
        cover the whole square input.
    unfamiliarity
        How far the embedding lies from the training films', None if the bundle does not say.
    """

    probabilities: Mapping[str, float]
    logits: Mapping[str, float]
    cams: NDArray[np.float32]
    embedding: NDArray[np.float32]
    attributes: Mapping[str, float]
    structures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    unfamiliarity: float | None = None


def available_cores() -> int:
    """Return the cores this process may use: its affinity, and its cgroup's quota if smaller."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


class Classifier:
    """A bundle's network, loaded once and shared by all threads (a session is thread-safe).

    Attributes
    ----------
    network
        Which of the bundle's networks answers.
    path
        Its file.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, network: NetworkChoice | None = None
    ) -> None:
        """Load the network that ``network`` names, by default what ``$VIGIL_NETWORK`` says.

        Raises
        ------
        BundleError
            If the bundle has no such network, or it is not what the manifest describes.
        """
        choice = network_choice() if network is None else network
        self.network = choose_network(choice, bundle.int8_path is not None)
        self.path = bundle.model_path
        if self.network is Network.INT8 and bundle.int8_path is not None:
            self.path = bundle.int8_path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3
        # Spinning threads would burn the core that decodes the next picture.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        exact_integers(options)
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime raises bare Exceptions of its own making
            raise BundleError(f"{self.path}: onnxruntime cannot load it") from error
        self._findings = tuple(finding.key for finding in bundle.manifest.findings)
        self._attributes = tuple(attribute.name for attribute in bundle.manifest.attributes)
        self._structures = bundle.manifest.structures
        self._check_interface(bundle)

    def _check_interface(self, bundle: Bundle) -> None:
        inputs = self._session.get_inputs()
        size = bundle.preprocessing.size
        found = [(i.name, list(i.shape[1:])) for i in inputs]
        if found != [("image", [1, size, size])]:
            raise BundleError(
                f"{self.path}: expected one input, image (N, 1, {size}, {size}), found {found}"
            )
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        channels = {"probabilities": len(self._findings), "cams": len(self._findings)}
        if self._attributes:
            channels["attributes"] = len(self._attributes)
        if self._structures:
            channels["structures"] = len(self._structures)
        asked = [name for name in OPTIONAL_OUTPUTS if name in channels]
        if bundle.manifest.unfamiliarity is not None:
            asked.append("unfamiliarity")
        self._outputs = [*OUTPUTS, *asked]
        for name in self._outputs:
            if name not in outputs:
                raise BundleError(f"{self.path}: the output {name} is missing")
            if name in channels and outputs[name][1] != channels[name]:
                raise BundleError(
                    f"{self.path}: output {name} has {outputs[name][1]} channels, "
                    f"the manifest names {channels[name]}"
                )

    def predict(self, model_input: NDArray[np.float32]) -> Prediction:
        """Run one picture.

        Parameters
        ----------
        model_input
            (1, 1, S, S) float32 from :func:`vigil.preprocess.to_model_input`.
        """
        outputs = self._session.run(self._outputs, {"image": model_input})
        values = dict(zip(self._outputs, outputs, strict=True))
        probabilities = values["probabilities"][0].tolist()
        logits = values["logits"][0].tolist()
        attributes = values["attributes"][0].tolist() if self._attributes else []
        structures = values["structures"][0] if self._structures else []
        return Prediction(
            probabilities=dict(zip(self._findings, probabilities, strict=True)),
            logits=dict(zip(self._findings, logits, strict=True)),
            cams=values["cams"][0],
            embedding=values["embedding"][0],
            attributes=dict(zip(self._attributes, attributes, strict=True)),
            structures=dict(zip(self._structures, structures, strict=True)),
            unfamiliarity=(
                float(values["unfamiliarity"][0]) if "unfamiliarity" in values else None
            ),
        )

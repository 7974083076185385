"""Variants of the stand-in bundle: the same network under another name and threshold."""

import shutil
from pathlib import Path
from typing import NamedTuple

from vigil.bundle import OperatingPoint, load_bundle, write_manifest
from vigil.reference import write_reference_outputs


class Bundles(NamedTuple):
    first: Path
    second: Path
    third: Path


def write_variant(stand_in: Path, folder: Path, name: str, threshold: float) -> Path:
    """Write a bundle that flags effusion from another threshold on, with reference outputs."""
    shutil.copytree(stand_in, folder)
    manifest = load_bundle(folder).manifest
    findings = tuple(
        finding.model_copy(update={"flag": OperatingPoint(threshold=threshold)})
        if finding.key == "Effusion"
        else finding
        for finding in manifest.findings
    )
    write_manifest(folder, manifest.model_copy(update={"id": name, "findings": findings}))
    write_reference_outputs(folder)
    return folder

"""Says what is missing before a long command begins."""

from vigil.errors import ConfigurationError


def require_torch() -> None:
    """Raise ConfigurationError unless torch, Lightning Fabric, MONAI and onnx are there."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "monai", "onnx", "lightning_fabric")):
        raise ConfigurationError(
            "training needs torch, Lightning Fabric, MONAI and onnx: install the package with its "
            "extra, vigil-cxr[training]"
        )

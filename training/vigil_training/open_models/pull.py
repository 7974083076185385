"""Fetches an open model through the package that publishes it, where there is a network."""

import contextlib
import importlib
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType

from vigil.errors import ConfigurationError
from vigil_training.open_models.registry import OpenModel
from vigil_training.open_models.store import ModelStore, Record
from vigil_training.vision import import_torchvision_models


def import_torchxrayvision() -> ModuleType:
    """Return ``torchxrayvision``, with Python's warnings left as they were.

    Raises
    ------
    ConfigurationError
        If the extra is not installed.
    """
    import_torchvision_models()
    try:
        with warnings.catch_warnings():  # its import would turn every warning off for good
            warnings.simplefilter("ignore")
            return importlib.import_module("torchxrayvision")
    except ImportError as error:
        raise ConfigurationError(
            "the package torchxrayvision is not installed: pip install 'vigil-cxr[xrv]', or carry "
            "the weights file in and use `vigil models import`"
        ) from error


def pull(model: OpenModel, store: ModelStore, *, replace: bool = False) -> Record:
    """Fetch a model's weights and keep them as :meth:`ModelStore.add` does.

    Only the package's download is used. It would unpickle what it fetched without restriction;
    the file goes through the allow-list instead.

    Raises
    ------
    ConfigurationError
        If the extra or the network is missing, or the file is refused.
    """
    if store.holds(model) and not replace:
        raise ConfigurationError(
            f"{model.name} is in {store.folder} already; remove it first or give --replace"
        )
    package = import_torchxrayvision()
    with tempfile.TemporaryDirectory(prefix="vigil-pull-") as scratch:
        try:
            # The package draws its progress on standard output, which is for results.
            with contextlib.redirect_stdout(sys.stderr):
                fetched = Path(package.models.get_weights(model.name, cache_dir=scratch))
        except OSError as error:  # requests' errors are OSErrors
            raise ConfigurationError(
                f"{model.name} could not be fetched ({type(error).__name__}): is there a network? "
                f"Without one, fetch {model.url} elsewhere, carry it here, and use "
                f"`vigil models import {model.file} --as {model.name}`"
            ) from error
        return store.add(fetched, model, replace=replace)

"""Reads what ``torch.save`` wrote without running any of it.

A whole pickled module is a programme for a small machine: it names callables ("globals") and has
them called. Here every name is looked up in a fixed list, and what it stands for is not the class
of torch, torchvision or torchxrayvision that it names but a container that only holds attributes.
A file that asks for anything else is refused before it gets it. The machinery of
``torch.load(weights_only=True)`` cannot be used: it refuses whole modules in the format that torch
wrote before 1.6, in which torchxrayvision's DenseNets were published.

Both formats are read: the zip archive (torch 1.6 and later: ``data.pkl`` and one entry a storage)
and the older sequence of pickles with the storages' bytes after them.
"""

import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Never

import numpy as np
from numpy.typing import NDArray

from vigil.errors import ConfigurationError

Array = NDArray[Any]

_LARGEST_FILE = 2 << 30  # bytes; the greatest file of the registry has about 94 MiB
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MOST_NAMES, _MOST_DEPTH = 20_000, 32
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
_MODULES = {
    "torch.nn.modules.activation": ("ReLU", "Sigmoid"),
    "torch.nn.modules.batchnorm": ("BatchNorm2d",),
    "torch.nn.modules.container": ("Sequential", "ModuleList"),
    "torch.nn.modules.conv": ("Conv2d",),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.linear": ("Linear",),
    "torch.nn.modules.pooling": ("AdaptiveAvgPool2d", "AvgPool2d", "MaxPool2d"),
    "torch.nn.modules.upsampling": ("Upsample",),
    "torchvision.models.densenet": ("DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"),
    "torchvision.models.resnet": ("Bottleneck", "ResNet"),
    "torchxrayvision.models": ("DenseNet", "ResNet", "_DenseBlock", "_DenseLayer", "_Transition"),
}


class PickleRefusedError(ConfigurationError):
    """The file would run code, or holds what no weights file holds; nothing of it was run."""

    code = "PICKLE_REFUSED"


class Saved(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    origin
        The class of the module that was saved, by its full name; None for a state dictionary.
    arrays
        The tensors, named as in the module's state dictionary.
    """

    origin: str | None
    arrays: dict[str, Array]


class _Inert:
    """Stands for a module of the file: holds its attributes and does nothing."""

    origin: str

    def __setstate__(self, state: object) -> None:
        # Anything but a plain dictionary would set attributes by name, of a class too.
        if not isinstance(state, dict):
            raise PickleRefusedError("a module's state is no dictionary")
        self.__dict__.update(state)


class _Storage(NamedTuple):
    """A storage that the pickle names; its bytes are read afterwards."""

    key: str
    kind: str
    length: int


class _View(NamedTuple):
    """A tensor: a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Call:
    """A function of ours under the name of one of torch's; a file can call it, not change it."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> object:
        return self._function(*arguments)

    def __setstate__(self, state: object) -> Never:
        raise PickleRefusedError("the file tries to change a function")


def _view(storage: object, offset: object, shape: object, strides: object, *_: object) -> _View:
    match storage, offset, shape, strides:
        case _Storage(), int(), tuple(), tuple() if len(shape) == len(strides) <= 8:
            if all(type(n) is int and 0 <= n < 1 << 40 for n in (offset, *shape, *strides)):
                return _View(storage, offset, shape, strides)
    raise PickleRefusedError("the file holds a tensor that is no view of a storage")


def _allowed() -> dict[str, object]:
    """Return what each permitted name stands for; made anew for every file."""
    allowed: dict[str, object] = {
        "collections.OrderedDict": OrderedDict,
        "builtins.set": set,
        "__builtin__.set": set,  # as protocol 2 spells it
        "torch._utils._rebuild_tensor": _Call(_view),
        "torch._utils._rebuild_tensor_v2": _Call(_view),
        "torch._utils._rebuild_parameter": _Call(lambda data, *_: data),
        # Modules saved by torch before 1.4 carry their "backend", which is nothing today.
        "torch.nn.backends.thnn._get_thnn_function_backend": _Call(lambda *_: None),
    }
    for module, names in _MODULES.items():
        for name in names:
            allowed[f"{module}.{name}"] = type(name, (_Inert,), {"origin": f"{module}.{name}"})
    return allowed | {kind: kind for kind in _DTYPES}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, allowed: Mapping[str, object]) -> None:
        super().__init__(file)
        self._allowed = allowed
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> object:
        """Look a global up in the list; nothing is imported."""
        try:
            return self._allowed[f"{module}.{name}"]
        except KeyError:
            raise PickleRefusedError(
                f"the file asks for {module}.{name}; expected nothing but the modules and tensors "
                "of a network, so it may carry code, and nothing of it was run"
            ) from None

    def persistent_load(self, pid: object) -> object:
        """Return a storage, or the container of a module that was saved with its source."""
        match pid:
            case ("module", type() as container, _, _) if issubclass(container, _Inert):
                return container
            case ("storage", str() as kind, str() as key, _, int() as length, *rest) if (
                kind in _DTYPES and 0 <= length < 1 << 40 and rest in ([], [None])
            ):
                storage = _Storage(key, kind, length)
                if self.storages.setdefault(key, storage) == storage:
                    return storage
        raise PickleRefusedError("the file refers to what is neither a storage nor a module")


def read_pickle(path: Path) -> Saved:
    """Read a file of ``torch.save`` that holds one module or one state dictionary.

    Raises
    ------
    PickleRefusedError
        If it asks for a global that is not on the list, or for anything else weights do not need.
    ConfigurationError
        If it cannot be read, is damaged or cut short, or was not written by ``torch.save``.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigurationError(f"{path}: is larger than any weights file that is known")
        with path.open("rb") as file:
            is_archive = zipfile.is_zipfile(file)
            file.seek(0)
            return _read_archive(file) if is_archive else _read_sequence(file)
    except PickleRefusedError as refusal:
        raise PickleRefusedError(f"{path}: {refusal}") from refusal
    except ConfigurationError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # what a damaged pickle raises is not bounded by any documentation
        raise ConfigurationError(
            f"{path}: expected a file that torch.save wrote whole, found one that is damaged or "
            f"cut short ({type(error).__name__})"
        ) from error


def _read_archive(file: BinaryIO) -> Saved:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise PickleRefusedError(
                "the archive holds no data.pkl, expected what torch.save wrote"
            )
        root = pickles[0].removesuffix("data.pkl")
        if any(name.startswith((f"{root}code/", f"{root}constants.pkl")) for name in names):
            raise PickleRefusedError("the file is a TorchScript archive, which carries code")
        # torch stores without compression; what unpacks to more than the file holds is no weights.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise PickleRefusedError("the archive is compressed, which torch.save never does")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise PickleRefusedError("the file is big-endian, expected little-endian")
        with archive.open(pickles[0]) as content:
            unpickler = _Unpickler(content, _allowed())  # type: ignore[arg-type]
            saved = unpickler.load()
        contents = {key: archive.read(f"{root}data/{key}") for key in unpickler.storages}
    return _resolve(saved, contents)


def _read_sequence(file: BinaryIO) -> Saved:
    """Read the older format: magic number, version, system, object, keys, then the storages."""
    if _Unpickler(file, {}).load() != _MAGIC or _Unpickler(file, {}).load() != _PROTOCOL:
        raise PickleRefusedError("the file does not begin as torch.save begins one")
    _Unpickler(file, {}).load()
    unpickler = _Unpickler(file, _allowed())
    saved = unpickler.load()
    keys = _Unpickler(file, {}).load()
    if not isinstance(keys, list) or set(keys) != set(unpickler.storages):
        raise PickleRefusedError("the file's storages are not those that its tensors need")
    contents = {}
    for key in keys:
        storage = unpickler.storages[key]
        (length,) = struct.unpack("<q", file.read(8))
        if length != storage.length:
            raise PickleRefusedError("a storage is not as long as its tensors say")
        contents[key] = file.read(length * _DTYPES[storage.kind].itemsize)
    return _resolve(saved, contents)


def _resolve(saved: object, contents: Mapping[str, bytes]) -> Saved:
    views: dict[str, _View] = {}
    if isinstance(saved, _Inert):
        _collect(saved, "", views, 0)
    elif isinstance(saved, dict) and all(isinstance(view, _View) for view in saved.values()):
        views = {str(name): view for name, view in saved.items()}
    if not views:
        raise PickleRefusedError(
            f"the file holds a {type(saved).__name__} without weights, expected a network or a "
            "dictionary of tensors"
        )
    origin = type(saved).origin if isinstance(saved, _Inert) else None
    return Saved(origin, {name: _array(view, contents) for name, view in views.items()})


def _collect(module: _Inert, prefix: str, views: dict[str, _View], depth: int) -> None:
    """Name a module's tensors as its state dictionary would."""
    if depth > _MOST_DEPTH or len(views) > _MOST_NAMES:
        raise PickleRefusedError("the file's modules are nested deeper than any network's")
    for kind in ("_parameters", "_buffers", "_modules"):
        for name, value in vars(module).get(kind, {}).items():
            if isinstance(value, _View):
                views[f"{prefix}{name}"] = value
            elif isinstance(value, _Inert):
                _collect(value, f"{prefix}{name}.", views, depth + 1)


def _array(view: _View, contents: Mapping[str, bytes]) -> Array:
    dtype = _DTYPES[view.storage.kind]
    flat = np.frombuffer(contents[view.storage.key], dtype)
    count = math.prod(view.shape)
    last = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True))
    if flat.size != view.storage.length or count > flat.size or (count and last >= flat.size):
        raise PickleRefusedError("a tensor reaches beyond its storage")
    if not count:
        return np.zeros(view.shape, dtype)
    strides = tuple(stride * dtype.itemsize for stride in view.strides)
    start = flat[view.offset :]
    return np.lib.stride_tricks.as_strided(start, view.shape, strides, writeable=False).copy()

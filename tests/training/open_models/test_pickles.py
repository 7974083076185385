import collections
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vigil.errors import ConfigurationError
from vigil_training.open_models.pickles import PickleRefusedError, read_pickle
from vigil_training.vision import import_torchvision_models

Save = Callable[..., Path]


class _Runs:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self._call


@pytest.mark.parametrize("zipped", [False, True], ids=["before-1.6", "zip"])
def test_a_whole_module_is_read_as_its_state_dictionary(
    densenet: nn.Module, save: Save, zipped: bool
) -> None:
    saved = read_pickle(save(densenet, _use_new_zipfile_serialization=zipped))
    assert saved.origin == "torchxrayvision.models.DenseNet"
    state = densenet.state_dict()
    assert set(saved.arrays) == set(state)
    for name, value in state.items():
        np.testing.assert_array_equal(saved.arrays[name], value.numpy())


def test_a_state_dictionary_is_read(save: Save) -> None:
    state = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).state_dict()
    saved = read_pickle(save(state))
    assert saved.origin is None
    assert {n: v.shape for n, v in saved.arrays.items()} == {n: v.shape for n, v in state.items()}
    assert saved.arrays["1.num_batches_tracked"].dtype == np.int64


def test_a_module_of_torch_1_1_is_read(save: Save) -> None:
    # Such modules carry a backend, and lack what later ones have.
    from torch.nn.backends.thnn import _get_thnn_function_backend

    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    for module in network.modules():
        vars(module)["_backend"] = _Runs(_get_thnn_function_backend)
        vars(module).pop("_non_persistent_buffers_set")
    saved = read_pickle(save(network, _use_new_zipfile_serialization=False))
    assert set(saved.arrays) == {"0.weight", "0.bias"}


def test_views_and_strides_are_kept(save: Save) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    saved = read_pickle(save({"turned": base.T, "part": base[1:3, 2:5], "empty": base[:0]}))
    np.testing.assert_array_equal(saved.arrays["turned"], base.T.numpy())
    np.testing.assert_array_equal(saved.arrays["part"], base[1:3, 2:5].numpy())
    assert saved.arrays["empty"].shape == (0, 6)


@pytest.mark.parametrize("zipped", [False, True], ids=["before-1.6", "zip"])
@pytest.mark.parametrize("function", [os.system, eval, exec], ids=["system", "eval", "exec"])
def test_a_pickle_that_would_run_code_does_not_and_is_named(
    tmp_path: Path, save: Save, function: Callable[..., object], zipped: bool
) -> None:
    mark = tmp_path / "ran"
    command = f"touch '{mark}'" if function is os.system else f"open({str(mark)!r}, 'w').close()"
    path = save(
        {"weight": torch.zeros(1), "more": _Runs(function, command)},
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(PickleRefusedError, match=rf"asks for \S+\.{function.__name__}; expected"):
        read_pickle(path)
    assert not mark.exists()
    # The file is not harmless: torch without the restriction runs it.
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_code_in_the_first_pickle_of_the_old_format_does_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "file.pt"
    path.write_bytes(pickle.dumps(_Runs(os.system, f"touch '{mark}'"), protocol=2))
    with pytest.raises(PickleRefusedError, match=r"\.system; expected"):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "names", [("collections", "OrderedDict.update"), ("torch.serialization", "load"), ("os", "sep")]
)
def test_a_name_beside_the_list_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "file.pt"
    _write_zip(path, b"\x80\x02c" + "\n".join(names).encode() + b"\n.")
    with pytest.raises(PickleRefusedError, match=f"asks for {names[0]}"):
        read_pickle(path)


def test_a_file_cannot_change_what_a_listed_name_stands_for(tmp_path: Path) -> None:
    # BUILD with a pair sets attributes by name, here __setstate__ of the class that all share.
    attack = b"\x80\x02ctorch.nn.modules.container\nSequential\n}}X\x0c\x00\x00\x00__setstate__"
    attack += b"ccollections\nOrderedDict\ns\x86b."
    path = tmp_path / "file.pt"
    _write_zip(path, attack)
    with pytest.raises(ConfigurationError):
        read_pickle(path)
    for function in (b"_rebuild_parameter", b"_rebuild_tensor_v2"):
        _write_zip(path, b"\x80\x02ctorch._utils\n" + function + b"\n}b.")
        with pytest.raises(PickleRefusedError, match="tries to change a function"):
            read_pickle(path)


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    for offset, shape, strides in [(3, (2,), (1,)), (0, (2,), (9,)), (0, (1000, 1000), (0, 0))]:
        path = tmp_path / "file.pt"
        _write_zip(path, _one_tensor(offset, shape, strides), {"0": struct.pack("<4f", 1, 2, 3, 4)})
        with pytest.raises(PickleRefusedError, match="reaches beyond its storage"):
            read_pickle(path)


@pytest.mark.parametrize("kept", [0.999, 0.6, 0.01])
@pytest.mark.parametrize("zipped", [False, True], ids=["before-1.6", "zip"])
def test_a_truncated_file_is_refused(save: Save, zipped: bool, kept: float) -> None:
    network = nn.Sequential(nn.Conv2d(1, 64, 7), nn.BatchNorm2d(64))
    path = save(network, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ConfigurationError, match=r"damaged|cut short|beyond its storage"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or cut short"),
        (b"not a pickle at all", "damaged or cut short"),
        (pickle.dumps(5, protocol=2) * 4, "does not begin as torch.save"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read_pickle(path)


def test_torchscript_is_refused_as_code(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file/data.pkl", b"\x80\x02N.")
        archive.writestr("file/code/__torch__.py", "")
    with pytest.raises(PickleRefusedError, match="TorchScript archive, which carries code"):
        read_pickle(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file/data.pkl", b"\x80\x02N.")
    with pytest.raises(PickleRefusedError, match="compressed"):
        read_pickle(path)


@pytest.mark.parametrize("what", [5, {}, {"epoch": 3}, {"state": {"w": torch.zeros(1)}}])
def test_what_holds_no_weights_is_refused(save: Save, what: object) -> None:
    with pytest.raises(PickleRefusedError, match="without weights, expected a network"):
        read_pickle(save(what))


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_pickle(tmp_path / "none.pt")


def test_modules_within_themselves_are_refused(save: Save) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    network._modules["again"] = network
    with pytest.raises(PickleRefusedError, match="nested deeper"):
        read_pickle(save(network))


def test_torchvisions_own_modules_are_read_too(save: Save) -> None:
    network = import_torchvision_models().resnet50(num_classes=18)
    saved = read_pickle(save(network))
    assert saved.origin == "torchvision.models.resnet.ResNet"
    assert set(saved.arrays) == set(network.state_dict())


def _one_tensor(offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """Pickle ``{"w": tensor}`` with a view of our choosing over a storage of four floats."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            rebuild = torch._utils._rebuild_tensor_v2
            return rebuild, (Storage(), offset, shape, strides, False, collections.OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, what: object) -> object:
            is_storage = isinstance(what, Storage)
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if is_storage else None

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"w": Tensor()})
    return buffer.getvalue()


def _write_zip(path: Path, content: bytes, storages: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("file/data.pkl", content)
        for key, value in (storages or {}).items():
            archive.writestr(f"file/data/{key}", value)

from pathlib import Path

import pytest
import torch

from vigil.errors import StorageError
from vigil_training.checkpoint import save


def test_a_full_disk_leaves_the_checkpoint_of_before_whole(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    before = {"weights": torch.arange(5.0)}
    save(path, before)
    path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"checkpoint\.pt: could not be written \(.+--resume"):
        save(path, {"weights": torch.zeros(1_000_000)})
    kept = torch.load(path, weights_only=True)
    assert torch.equal(kept["weights"], before["weights"])
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    save(path, {"weights": torch.ones(2)})
    assert torch.equal(torch.load(path, weights_only=True)["weights"], torch.ones(2))

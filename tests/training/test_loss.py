import numpy as np
import pytest
import torch

from vigil_training.config import OptimisationConfig
from vigil_training.loss import masked_loss, positive_weights
from vigil_training.targets import Example


def test_an_unknown_label_has_no_gradient_and_no_weight_in_the_loss() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 5.0]], requires_grad=True)
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    ones = torch.ones(2)
    for unknown in (0.0, 1.0):
        logits.grad = None
        loss = masked_loss(logits, torch.tensor([[1.0, unknown], [0.0, 1.0]]), mask, ones, ones)
        loss.backward()
        assert logits.grad is not None
        assert logits.grad[0, 1] == 0
        assert (logits.grad != 0).sum() == 3
        expected = ((np.log1p(np.exp(-0.3)) + np.log1p(np.exp(1.0))) / 2 + np.log1p(np.exp(-5))) / 2
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_finding_that_few_films_know_counts_as_much_as_one_that_all_know() -> None:
    logits = torch.zeros(8, 2, requires_grad=True)
    mask = torch.ones(8, 2)
    mask[1:, 1] = 0
    masked_loss(logits, torch.ones(8, 2), mask, torch.ones(2), torch.ones(2)).backward()
    assert logits.grad is not None
    assert logits.grad[:, 0].sum().item() == pytest.approx(logits.grad[:, 1].sum().item())


def test_a_batch_that_knows_nothing_has_no_loss() -> None:
    logits = torch.ones(2, 2, requires_grad=True)
    loss = masked_loss(logits, torch.ones(2, 2), torch.zeros(2, 2), torch.ones(2), torch.ones(2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().sum() == 0


def test_an_outputs_weight_scales_its_part() -> None:
    logits, one = torch.tensor([[2.0, -1.0]]), torch.ones(1, 2)
    loss = masked_loss(logits, one, one, torch.ones(2), torch.tensor([1.0, 0.5]))
    expected = (np.log1p(np.exp(-2)) + 0.5 * np.log1p(np.exp(1))) / 1.5
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_positives_weigh_by_their_rarity_among_the_known_up_to_a_limit() -> None:
    targets = np.zeros((100, 3), np.float32)
    mask = np.ones((100, 3), np.float32)
    targets[:20, 0] = 1
    targets[:1, 1] = 1
    targets[:50, 2] = 1
    mask[20:36, 0] = 0  # 20 positive, 64 negative
    examples = [
        Example(None, "a", str(i), True, target, known)
        for i, (target, known) in enumerate(zip(targets, mask, strict=True))
    ]
    options = OptimisationConfig(epochs=1, pictures_per_epoch=1, positive_weight_limit=5)
    weights = positive_weights(examples, findings=2, config=options)
    assert weights.tolist() == pytest.approx([np.sqrt(64 / 20), 5, 1])

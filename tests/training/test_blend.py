import numpy as np
import torch

from vigil_training.blend import Blend, draw_blend
from vigil_training.config import OptimisationConfig


def test_a_blend_keeps_its_share_of_a_picture_and_takes_the_rest_of_its_partner() -> None:
    images = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    blend = Blend(torch.tensor([1, 0]), 0.75)
    assert blend.mix(images).tolist() == [[2.0, 3.0], [6.0, 1.0]]


def test_the_asked_part_of_the_steps_is_blended_and_every_picture_is_a_partner_once() -> None:
    options = OptimisationConfig(epochs=1, pictures_per_epoch=1, mixup_share=0.5)
    random = np.random.default_rng(3)
    drawn = [draw_blend(options, 6, random) for _ in range(400)]
    blends = [blend for blend in drawn if blend is not None]
    assert 160 < len(blends) < 240
    assert all(sorted(blend.partner.tolist()) == list(range(6)) for blend in blends)
    assert all(0 <= blend.share <= 1 for blend in blends)
    never = options.model_copy(update={"mixup_share": 0.0})
    assert all(draw_blend(never, 6, random) is None for _ in range(20))

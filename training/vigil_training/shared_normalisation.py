"""Batch normalisation over the pictures of all processes, as one process with them all would."""

import torch
from torch import Tensor, nn


class _Summed(torch.autograd.Function):
    """The sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(_: object, value: Tensor) -> Tensor:
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation over the pictures of all processes, on a processor.

    torch's own ``SyncBatchNorm`` takes tensors on a GPU only. Sums and squares about the
    common mean are shared, so the figures are those of one process with the whole batch.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """Normalise (N, C, h, w); a process may have no picture."""
        if not self.training:
            return super().forward(input)
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        places = values.new_tensor([input.numel() // input.shape[1]])
        summed = _Summed.apply(torch.cat([values.sum((0, 2, 3)), places]))
        count = summed[-1].item()
        mean = summed[:-1] / count
        centred = values - mean.view(1, -1, 1, 1)
        variance = _Summed.apply(centred.square().sum((0, 2, 3))) / count
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        normalised = centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        result: Tensor = normalised.to(input.dtype)
        return result

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, float(self.momentum or 0))
        self.running_var.lerp_(variance, float(self.momentum or 0))
        self.num_batches_tracked += 1


def share_batch_statistics(network: nn.Module, device: torch.device) -> None:
    """Let a network's batch normalisation see the pictures of all processes, in place.

    Names and values of the weights stay; normalisation that is frozen is left as it is.
    """
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is not nn.BatchNorm2d or not module.training:
                continue
            if device.type == "cuda":
                shared = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            else:
                shared = SharedBatchNorm2d(module.num_features, module.eps, module.momentum)
                shared.load_state_dict(module.state_dict())
            setattr(parent, name, shared)

"""The element-wise parts of a transformer's training step, made for processors.

Accelerators have kernels of their own for these. On a processor torch draws dropout masks one number at a
time in one thread (a third of T5's step) and passes an RMS norm through memory ten times. Here masks are cut
from 64-bit random words and applied to the bits, and norms work on blocks of rows that stay in the cache:
same distribution, same formulas.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 1 << 16  # a dropout rate is rounded to this many steps
ROWS = 256  # of a norm at once
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes a number


def compute_dtype(x: Tensor) -> torch.dtype:
    """The type of matrix products with ``x``: autocast's where it is on."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def lossless(weight: Tensor) -> Tensor:
    """``weight`` in bfloat16 where that holds every number of it, as of most published models; else itself."""
    half = weight.detach().bfloat16()
    return half if bool((half == weight).all()) else weight


def by_hand(x: Tensor) -> bool:
    """Whether the parts made here serve: on a processor, unless ``torch.compile`` makes its own of the plain ones."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class Mask:
    """Which numbers dropout keeps, as bits to be and-ed with them: all ones, or none.

    Args:
        shape: of the numbers.
        rate: share that is dropped.
        device: of the numbers.

    Attributes:
        bits: int16 of ``shape``.
        scale: what the kept numbers are multiplied by.
    """

    def __init__(self, shape: torch.Size, rate: float, device: torch.device) -> None:
        size, cut = shape.numel(), round(rate * LEVELS)
        words = torch.empty(size // 4 + 1, dtype=torch.int64, device=device).random_(-(1 << 63), None)
        words = words.view(torch.int16)[:size]
        self.bits = torch.ge(words, cut - LEVELS // 2, out=words).neg_().view(shape)
        self.scale = LEVELS / (LEVELS - cut)

    def apply_(self, x: Tensor) -> Tensor:
        """Scale and mask ``x`` in place."""
        kind = BITS[x.element_size()]
        x.mul_(self.scale).view(kind).bitwise_and_(self.bits.to(kind))
        return x


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Inverted dropout (Srivastava et al., 2014), as ``F.dropout``."""
    if not training or rate == 0:
        return x
    if not by_hand(x):
        return F.dropout(x, rate)
    dropped: Tensor = _Dropout.apply(x, rate)
    return dropped


class Dropout(nn.Dropout):
    """``nn.Dropout`` by :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rate: float) -> Tensor:
        ctx.mask = Mask(x.shape, rate, x.device)
        return ctx.mask.apply_(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return ctx.mask.apply_(grad_outputs[0].clone(memory_format=torch.contiguous_format)), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / sqrt(mean(x²) + eps) · weight`` over the last dimension (Zhang & Sennrich, 2019), in the type of ``x``.

    The result is in the type of the products that follow.
    """
    if not by_hand(x):
        return F.rms_norm(x, weight.shape, weight, eps).to(compute_dtype(x))
    normed: Tensor = _RMSNorm.apply(x, weight, eps)
    return normed


class _RMSNorm(torch.autograd.Function):
    """With r = 1 / rms and g = dy · weight: dx = r · (g − x · r² · mean(x · g)), dweight = Σ dy · x · r."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inverse = rows.new_empty(len(rows), 1)
        result = torch.empty_like(rows, dtype=compute_dtype(x))
        for part, r, y in zip(rows.split(ROWS), inverse.split(ROWS), result.split(ROWS), strict=True):
            torch.linalg.vector_norm(part, dim=1, keepdim=True, out=r)
            r.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
            y.copy_((part * r).mul_(weight))
        ctx.save_for_backward(rows, weight, inverse)
        return result.view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, inverse = ctx.saved_tensors
        grad_rows, grad_weight = torch.empty_like(rows), torch.zeros_like(weight)
        grads = grad_outputs[0].reshape(rows.shape)
        pieces = (tensor.split(ROWS) for tensor in (rows, inverse, grads, grad_rows))
        for x, r, dy, dx in zip(*pieces, strict=True):
            unit, given = x * r, dy.to(x.dtype)
            torch.mul(given, unit, out=dx)
            grad_weight += dx.sum(0)
            share = (dx @ weight)[:, None] / -rows.shape[1]
            torch.mul(given, weight, out=dx)
            dx.addcmul_(unit, share).mul_(r)
        return grad_rows.view(grad_outputs[0].shape), grad_weight, None

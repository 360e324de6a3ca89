"""How weights move: AdamW, the rate's schedule, the type of the arithmetic."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW

from oovrec.training.config import TrainingConfig

FUSED = ("cpu", "cuda", "mps", "xpu")  # devices for which torch has the update as one kernel


def adamw(module: nn.Module, config: TrainingConfig) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019) over what is to be learnt; only matrices decay."""
    learnt = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learnt if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in learnt if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(parameter.device.type in FUSED for parameter in learnt)
    return AdamW(groups, lr=config.learning_rate, fused=fused)


def learning_rate(config: TrainingConfig, updates: int, done: float) -> float:
    """The rate of one update.

    Args:
        updates: optimiser steps before it.
        done: share of the whole training before it, 0 to 1.
    """
    warm = min(1.0, (updates + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    held = 1.0 if config.schedule == "constant" else (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * warm * held


def autocast(config: TrainingConfig, device: torch.device) -> torch.autocast:
    """bfloat16 products where wanted (weights stay float32); ``auto`` wants them where the hardware has them."""
    wanted = native_bf16(device) if config.precision == "auto" else config.precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return False

"""LoRA (Hu et al., ICLR 2022): a pretrained body stays as it is and learns by low-rank changes of its linear maps.

What is learnt, and all that a checkpoint holds: the adapters, the rows of the OOV tokens (input, and output where
a model does not tie the two) and the augmentation's map. Everything else stays that of the backbone, and is kept in
bfloat16 where that loses nothing, as of most models that are published.
"""

from __future__ import annotations

import importlib.util
from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from oovrec.config import Options
from oovrec.errors import OovrecError, unknown
from oovrec.models.arithmetic import compute_dtype, lossless
from oovrec.models.generative.augmentation import GrownTable
from oovrec.models.generative.network import ItemNetwork

UNHALVED = "wo"  # T5 rounds what it gives this layer to the type of its weight


class LoraOptions(Options):
    """Options of the adapters.

    Attributes:
        rank: r of W + (alpha / r) · B A.
        alpha: see rank.
        dropout: on an adapter's input, in training; T5's maps from the encoder's states to keys and values go without.
        targets: names of the linear layers that get one; none named are all of the body's.
    """

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()


class FrozenLinear(nn.Linear):
    """A linear layer that is not learnt, its weight in bfloat16: half the memory, the same products.

    Under autocast they are of bfloat16 anyway; else the weight is made float32 again for as long as it is needed.

    Args:
        layer: the same in float32.
        half: its weight in bfloat16, of :func:`lossless`.
    """

    def __init__(self, layer: nn.Linear, half: Tensor) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = nn.Parameter(half, requires_grad=False)
        self.bias = layer.bias

    def forward(self, states: Tensor) -> Tensor:
        return F.linear(states, self.weight.to(compute_dtype(states)), self.bias)


def adapt(module: ItemNetwork, options: LoraOptions, known: int) -> None:
    """Freeze ``module`` but for new adapters, its tables' rows from ``known`` on, and the augmentation.

    Raises:
        OovrecError: the package peft is missing; a target is no linear layer of the module.
    """
    if importlib.util.find_spec("peft") is None:
        raise OovrecError("the package 'peft' is missing", where="model.lora", remedy="pip install 'oovrec[lora]'")
    from peft import LoraConfig, inject_adapter_in_model

    layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    names = {name.rpartition(".")[2] for name in layers if not name.startswith(("embedding.", "head."))}
    for target in options.targets:
        if target not in names:
            raise unknown("layer", target, names, where="model.lora.targets")
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=sorted(options.targets or names),
    )
    inject_adapter_in_model(config, module)  # freezes the rest
    for table in dict.fromkeys([module.embedding, module.output]):
        table.table = GrownTable(table.table.weight.detach(), known)
        if table.project is not None:
            table.project.requires_grad_(True)
    _halve(module)


def _halve(module: nn.Module) -> None:
    """Keep the linear layers that are not learnt in half the memory, where nothing is lost by it."""
    for name, layer in [*module.named_modules()]:
        wanted = type(layer) is nn.Linear and name.removesuffix(".base_layer").rpartition(".")[2] != UNHALVED
        if wanted and not layer.weight.requires_grad and (half := lossless(layer.weight)) is not layer.weight:
            module.set_submodule(name, FrozenLinear(layer, half))


def effective(layer: Any) -> Tensor:
    """The matrix of a linear layer, its adapter added in where it has one."""
    if isinstance(layer, nn.Linear):
        return layer.weight.float()
    weight: Tensor = layer.get_base_layer().weight
    return weight + sum(layer.get_delta_weight(name) for name in layer.active_adapters)


def merged(body: nn.Module) -> dict[str, Tensor]:
    """A body's weights by the names that the stock model has for them, adapters added into their layers."""
    state = body.state_dict().items()
    weights = {name.replace(".base_layer.", "."): weight for name, weight in state if ".lora_" not in name}
    adapted = [(name, layer) for name, layer in body.named_modules() if hasattr(layer, "lora_A")]
    return weights | {f"{name}.weight": effective(layer).detach() for name, layer in adapted}

"""RecBole's weights copied into our models give RecBole's scores (``make .recbole`` installs it)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oovrec.data.histories import Histories
from oovrec.models.base import NeuralRecommender
from oovrec.models.entities import Entities
from oovrec.models.sequential.bert4rec import BERT4Rec, BERT4RecOptions
from oovrec.models.sequential.caser import Caser, CaserOptions
from oovrec.models.sequential.gru4rec import GRU4Rec, GRU4RecOptions
from oovrec.models.sequential.hgn import HGN, HGNOptions
from oovrec.models.sequential.sasrec import SASRec, SASRecOptions

ROOT = Path(__file__).parents[2]
RECBOLE, SCRIPT = ROOT / ".recbole", ROOT / "tests" / "recbole" / "scores.py"
USERS, ITEMS, LENGTH = 7, 30, 6  # as in the script
ENTITIES = Entities([f"i{n}" for n in range(ITEMS)], [f"u{n}" for n in range(USERS)])

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def recbole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script's files, made by a process of its own: RecBole pins packages and configures logging on import."""
    if not RECBOLE.is_dir():
        pytest.skip("RecBole is not installed: make .recbole")
    out = tmp_path_factory.mktemp("recbole")
    ran = subprocess.run([sys.executable, SCRIPT, RECBOLE, out], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return out


def given(folder: Path, name: str) -> tuple[Weights, Histories, Tensor]:
    """RecBole's weights; its histories and users, counted from 0; its scores of our items."""
    weights = load_file(folder / f"{name}.safetensors")
    items, lengths, users, scores = (weights.pop(key) for key in ("items", "lengths", "users", "scores"))
    sequences = [row[:length].numpy() - 1 for row, length in zip(items, lengths, strict=True)]
    return weights, Histories.of(sequences, users.numpy() - 1), scores[:, 1:]


def loaded(model: NeuralRecommender, weights: Weights) -> None:
    model.module.load_state_dict(weights)  # strict: each weight once, of the right shape


def same(model: NeuralRecommender, histories: Histories, scores: Tensor) -> None:
    assert scores.std() > 0.1
    torch.testing.assert_close(model.scores(histories), scores, rtol=1e-5, atol=1e-5)


def test_gru4rec(recbole: Path) -> None:
    theirs, histories, scores = given(recbole, "GRU4Rec")
    model = GRU4Rec(GRU4RecOptions(width=8, units=12, layers=2, length=LENGTH), ENTITIES)
    units = {key.replace("gru_layers", "units"): value for key, value in theirs.items() if "gru_layers" in key}
    out = {"out.weight": theirs["dense.weight"], "out.bias": theirs["dense.bias"]}
    loaded(model, {"items.weight": theirs["item_embedding.weight"][1:], **units, **out})
    same(model, histories, scores)


def test_caser(recbole: Path) -> None:
    """RecBole ties the output to the item embeddings and pads on the right; it was given left-padded histories here."""
    theirs, histories, scores = given(recbole, "Caser")
    config = CaserOptions(width=8, length=LENGTH, horizontal=3, vertical=2, output="tied")
    model = Caser(config, ENTITIES)
    vertical, rest = theirs["fc1.weight"].split([2 * 8, 3 * LENGTH], 1)
    vertical = vertical.unflatten(1, (2, 8)).transpose(1, 2).flatten(1)  # by filter, by dimension: the other way round
    ours = {
        "users.weight": theirs["user_embedding.weight"][1:],
        "items.weight": theirs["item_embedding.weight"].roll(-1, 0),  # padding is last
        "vertical.weight": theirs["conv_v.weight"].flatten(1),
        "vertical.bias": theirs["conv_v.bias"],
        "full.weight": torch.cat([vertical, rest], 1),
        "full.bias": theirs["fc1.bias"],
        "second.weight": theirs["fc2.weight"],
        "second.bias": theirs["fc2.bias"],
    }
    for n in range(LENGTH):
        ours[f"horizontal.{n}.weight"] = theirs[f"conv_h.{n}.weight"].squeeze(1).transpose(1, 2)
        ours[f"horizontal.{n}.bias"] = theirs[f"conv_h.{n}.bias"]
    loaded(model, ours)
    same(model, histories, scores)


def test_hgn(recbole: Path) -> None:
    """RecBole counts padding in the average, so only whole windows can be the same; it has no bias an item."""
    theirs, histories, scores = given(recbole, "HGN")
    model = HGN(HGNOptions(width=8, length=LENGTH), ENTITIES)
    rows = theirs["item_embedding_for_prediction.weight"][1:]
    ours = {
        "users.weight": theirs["user_embedding.weight"][1:],
        "items.weight": theirs["item_embedding.weight"].roll(-1, 0),  # padding is last
        "output.weight": torch.cat([rows, torch.zeros(ITEMS, 1)], 1),
        "feature_item.weight": theirs["w1.weight"],
        "feature_item.bias": theirs["b"] + theirs["w1.bias"] + theirs["w2.bias"],
        "feature_user.weight": theirs["w2.weight"],
        "instance_item.weight": theirs["w3.weight"],
        "instance_user.weight": theirs["w4.weight"],
    }
    loaded(model, ours)
    whole = histories.lengths == LENGTH
    same(model, histories.take(whole), scores[torch.from_numpy(whole)])


def linear(theirs: Weights, names: dict[str, str]) -> Weights:
    """Weight and bias of each layer, under our name instead of RecBole's."""
    return {f"{ours}.{kind}": theirs[f"{other}.{kind}"] for ours, other in names.items() for kind in ("weight", "bias")}


def embeddings(theirs: Weights) -> Weights:
    """Of items, without RecBole's padding in front, and positions."""
    return {
        "items.weight": theirs["item_embedding.weight"][1:],
        "positions.weight": theirs["position_embedding.weight"],
    }


def layer(n: int) -> tuple[str, str]:
    """RecBole's names of the two parts of block ``n``."""
    return f"trm_encoder.layer.{n}.multi_head_attention", f"trm_encoder.layer.{n}.feed_forward"


class NormedBefore(nn.Module):
    """A block whose own norm of the queries stands in front of all of it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm, self.block = block.attention_norm, block
        block.attention_norm = nn.Identity()

    def forward(self, states: Tensor, real: Tensor | None = None, asked: Tensor | None = None) -> Tensor:
        return self.block(self.norm(states), real, asked if asked is None else self.norm(asked))


def test_sasrec(recbole: Path) -> None:
    """RecBole's network is BERT's. Ours is the authors': item embeddings are scaled, keys and values not normalised.

    Both undone, by moving our own norm in front of the whole block, all our parts give RecBole's scores. It counts
    positions from the oldest item, so that histories are compared length by length.
    """
    theirs, histories, scores = given(recbole, "SASRec")
    model = SASRec(SASRecOptions(width=8, length=LENGTH), ENTITIES)
    names = {"blocks.0.attention_norm": "LayerNorm"}
    for n, after in enumerate(("blocks.1.attention_norm", "norm")):
        attention, feed = layer(n)
        names[after] = f"{feed}.LayerNorm"
        names |= {f"blocks.{n}.{part}": f"{attention}.{part}" for part in ("query", "key", "value")}
        names |= {f"blocks.{n}.out": f"{attention}.dense", f"blocks.{n}.feed_norm": f"{attention}.LayerNorm"}
        names |= {f"blocks.{n}.feed.0": f"{feed}.dense_1", f"blocks.{n}.feed.3": f"{feed}.dense_2"}
    loaded(model, {**embeddings(theirs), **linear(theirs, names)})
    model.module.blocks, model.module.scale = nn.ModuleList(map(NormedBefore, model.module.blocks)), 1.0
    for length in range(1, LENGTH + 1):
        model.module.positions.weight.data[:length] = theirs["position_embedding.weight"][:length].flip(0)
        some = histories.lengths == length
        assert some.any()
        same(model, histories.take(some), scores[torch.from_numpy(some)])


def test_bert4rec(recbole: Path) -> None:
    """RecBole drops the oldest item of every history to make room for the mask token, of short ones too."""
    theirs, histories, scores = given(recbole, "BERT4Rec")
    model = BERT4Rec(BERT4RecOptions(width=8, length=LENGTH - 1), ENTITIES)
    names = {"norm": "LayerNorm", "output.0": "output_ffn", "output.2": "output_ln"}
    for n in range(2):
        attention, feed = layer(n)
        names |= {f"blocks.{n}.attention.{part}": f"{attention}.{part}" for part in ("query", "key", "value")}
        names |= {f"blocks.{n}.attention.out": f"{attention}.dense", f"blocks.{n}.feed.norm": f"{feed}.LayerNorm"}
        names |= {f"blocks.{n}.feed.layers.0": f"{feed}.dense_1", f"blocks.{n}.feed.layers.2": f"{feed}.dense_2"}
        names[f"blocks.{n}.attention.norm"] = f"{attention}.LayerNorm"
    loaded(model, {**embeddings(theirs), "bias": theirs["output_bias"][1:], **linear(theirs, names)})
    some = histories.lengths > 1
    shortened = Histories.of([history[1:] for history in histories.take(some)])
    same(model, shortened, scores[torch.from_numpy(some)])

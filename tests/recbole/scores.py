"""Random weights of RecBole's models and the scores that these give, for tests to compare with.

    python scores.py FOLDER_WITH_RECBOLE OUT

writes OUT/<model>.safetensors: the weights, by RecBole's names, and ``scores`` ``[n, items + 1]`` of the histories
``items`` ``[n, L]`` (padded with 0, item ids from 1), ``lengths`` and ``users`` (ids from 1).
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

USERS, ITEMS, HISTORIES, LENGTH = 7, 30, 64, 6
FIELDS = {
    "USER_ID_FIELD": "user",
    "ITEM_ID_FIELD": "item",
    "LIST_SUFFIX": "s",
    "ITEM_LIST_LENGTH_FIELD": "length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": LENGTH,
    "device": "cpu",
    "loss_type": "CE",
    "embedding_size": 8,
}
TRANSFORMER = {
    "n_layers": 2,
    "n_heads": 2,
    "hidden_size": 8,
    "hidden_dropout_prob": 0.5,
    "attn_dropout_prob": 0.5,
    "initializer_range": 0.02,
}
MASKING = {"mask_ratio": 0.2, "MASK_ITEM_SEQ": "", "POS_ITEMS": "", "NEG_ITEMS": "", "MASK_INDEX": ""}
MODELS = {
    "GRU4Rec": {"hidden_size": 12, "num_layers": 2, "dropout_prob": 0.5},
    "Caser": {"nh": 3, "nv": 2, "dropout_prob": 0.5, "reg_weight": 0.0},
    "HGN": {"reg_weight": [0.0, 0.0], "pooling_type": "average"},
    "SASRec": {**TRANSFORMER, "inner_size": 8, "hidden_act": "relu", "layer_norm_eps": 1e-5},
    "BERT4Rec": {**TRANSFORMER, **MASKING, "inner_size": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-12},
}
LEFT_PADDED = ("Caser", "HGN")  # which take no lengths, so that they may be given either


class Data:
    """What RecBole's models ask a dataset for."""

    user_num = USERS + 1

    def num(self, field: str) -> int:
        return {"user": USERS + 1, "item": ITEMS + 1}[field]


def main(recbole: str, out: str) -> None:
    sys.path.append(recbole)
    from recbole.model import sequential_recommender

    torch.manual_seed(0)
    lengths = torch.arange(HISTORIES) % LENGTH + 1
    items = torch.randint(1, ITEMS + 1, (HISTORIES, LENGTH)) * (torch.arange(LENGTH) < lengths[:, None])
    users = torch.randint(1, USERS + 1, (HISTORIES,))
    for name, options in MODELS.items():
        model = getattr(sequential_recommender, name)(FIELDS | options, Data()).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        shown = torch.stack([row.roll(LENGTH - int(n)) for row, n in zip(items, lengths, strict=True)])
        given = {"user": users, "items": shown if name in LEFT_PADDED else items, "length": lengths}
        with torch.no_grad():
            scores = model.full_sort_predict(given)
        known = {"scores": scores, "items": items, "lengths": lengths, "users": users}
        save_file({**model.state_dict(), **known}, Path(out) / f"{name}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])

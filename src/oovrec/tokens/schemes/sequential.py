"""SID: items numbered as they are first met (P5; Hua et al., "How to Index Item IDs", SIGIR-AP 2023).

Items that follow each other in a history get numbers that follow each other. Numbered along histories that hold the
held-out items, as some code does, a target stands next to the item before it; here the training part is numbered first.
"""

from __future__ import annotations

import numpy as np

from oovrec.config import Options
from oovrec.tokens.build import Built, Material, first_met
from oovrec.tokens.naming import one_level_names
from oovrec.tokens.table import TokenTable


class Config(Options):
    """There are no options."""


def build(material: Material, config: Config, seed: int) -> Built:
    """Number items from 1001 in the order in which the users, row after row, first meet them; users by row.

    Items met in held-out parts only come last, in the order of the full histories (P5's rule). Their numbers have
    therefore seen held-out interactions, although no training item's has; ``details`` count them.
    """
    order = np.concatenate([first_met(material.histories), material.unmet])
    items = TokenTable.of(material.items, one_level_names("I", order))
    users = TokenTable.of(material.users, one_level_names("U", np.arange(len(material.users))))
    return Built(items, users, {"numbered_by_held_out": len(material.unmet)})

"""The source of data that is given in any form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oovrec.app.source import Source
from oovrec.data.columns import Columns
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError

REFUSED = r"^data: the dataset 'films' cannot be read again by its source alone; give a Source, which says columns"


def test_of_a_path_a_source_and_a_dataset(log: Path) -> None:
    assert Source.of(log) == Source.of(str(log)) == Source(source=str(log))
    given = Source(source=str(log), k_core=2)
    assert Source.of(given) is given
    dataset = load_dataset(log, name="mine")
    assert Source.of(dataset) == Source(source=str(log), name="mine")
    assert Source.of(dataset).load().fingerprint == dataset.fingerprint


def test_a_dataset_that_its_source_alone_does_not_give(log: Path, tmp_path: Path) -> None:
    dataset = load_dataset(log)
    strange = tmp_path / "films.csv"
    strange.write_text(log.read_text().replace("user_id", "who"))
    others = [
        load_dataset(log, k_core=9),
        load_dataset(strange, columns=Columns(user="who")),
        replace(dataset, source=""),
        replace(dataset, source=str(tmp_path / "gone.csv")),
        replace(dataset, full=dataset.histories("train")),
    ]
    for other in others:
        with pytest.raises(OovrecError, match=REFUSED):
            Source.of(other)

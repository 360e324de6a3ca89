"""The source of data that is given in any form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from oovrec.app.source import Source
from oovrec.data.columns import Columns
from oovrec.data.load import load_dataset
from oovrec.errors import OovrecError

REFUSED = r"^data: the dataset 'films' cannot be read again as it is; write it to a file"


def test_of_a_path_a_source_and_a_dataset(log: Path) -> None:
    assert Source.of(log) == Source.of(str(log)) == Source(source=str(log))
    given = Source(source=str(log), k_core=2)
    assert Source.of(given) is given
    dataset = load_dataset(log, name="mine")
    assert Source.of(dataset) == Source(source=str(log), name="mine")
    assert Source.of(dataset).load().fingerprint == dataset.fingerprint


def test_a_dataset_tells_how_it_was_read(log: Path, mixed_log: Path, tmp_path: Path) -> None:
    strange = tmp_path / "films.csv"
    strange.write_text(log.read_text().replace("user_id", "who"))
    told = tmp_path / "films.yaml"
    told.write_text("source: films.csv\ncolumns: {user: who}\nk_core: 8\ntie_seed: 3\n")
    columns = Columns(user="who")
    others = [
        (load_dataset(log, k_core=9), Source(source=str(log), k_core=9, name="films")),
        (load_dataset(log, tie_seed=3), Source(source=str(log), tie_seed=3, name="films")),
        (load_dataset(mixed_log, hold_out="time"), Source(source=str(mixed_log), hold_out="time", name="mixed")),
        (load_dataset(strange, columns=columns), Source(source=str(strange), columns=columns, name="films")),
        (load_dataset(strange, columns={"user": "who"}), Source(source=str(strange), columns=columns, name="films")),
        (load_dataset(told), Source(source=str(told), name="films")),
    ]
    for dataset, source in others:
        assert Source.of(dataset) == source
        assert source.load().fingerprint == dataset.fingerprint


def test_a_dataset_that_its_source_does_not_give(log: Path, tmp_path: Path) -> None:
    dataset = load_dataset(log)
    others = [
        replace(dataset, source=""),
        replace(dataset, source=str(tmp_path / "gone.csv")),
        replace(dataset, full=dataset.histories("train")),
    ]
    for other in others:
        with pytest.raises(OovrecError, match=REFUSED):
            Source.of(other)

"""Which data a command is about: as it was asked for, and as it was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from oovrec.data.catalog import CATALOG
from oovrec.data.dataset import Dataset
from oovrec.data.load import K_CORE, Columns, DataFile, check_place, is_data_file, load_dataset, told_twice
from oovrec.errors import OovrecError

DIGEST = r"^([0-9a-f]{64})?$"
MARKS = ("sha256", "fingerprint", "described")  # digests, by which data are known again


class Source(DataFile):
    """Data, as it was asked for and as it was found.

    Attributes:
        source: a name of the catalogue, a folder, a file, or a data file that says the rest.
        name: the dataset's; '' before it was read.
        sha256: of its files; '' before.
        fingerprint: of its ids, histories and times; '' before.
        described: of its texts, attributes and ratings; '' before, and where there are none.
    """

    sha256: str = Field("", pattern=DIGEST)
    fingerprint: str = Field("", pattern=DIGEST)
    described: str = Field("", pattern=DIGEST)

    @classmethod
    def of(cls, data: Source | Dataset | str | Path) -> Source:
        """The source of data in any form; a dataset's is read once more, to see that it gives the same.

        Raises:
            OovrecError: a dataset that was not read from a file, or was changed since; neither name nor path.
        """
        if isinstance(data, Source):
            return data
        if not isinstance(data, Dataset):
            check_place(data)
            return cls(source=str(data))
        said = () if is_data_file(data.source) else ("tie_seed", "hold_out")  # such a file says it
        arranged: dict[str, Any] = {key: getattr(data, key) for key in said}
        source = cls(source=data.source, name=data.name, **data.reading, **arranged)
        try:
            same = bool(data.source) and source.load().fingerprint == data.fingerprint
        except OovrecError:
            same = False
        if not same:
            what = f"the dataset '{data.name}' cannot be read again as it is"
            raise OovrecError(what, where="data", remedy="write it to a file and give 'load_dataset' of that")
        return source

    @classmethod
    def asked_for(cls, data: str, columns: Columns, k_core: int | None) -> Source:
        """Data by the command line's options, of which those that were not given are None.

        Raises:
            OovrecError: a data file, which says the options' part itself.
        """
        if is_data_file(data) and (columns, k_core) != (Columns(), None):
            raise told_twice(data)
        return cls(source=data, columns=columns, k_core=K_CORE if k_core is None else k_core)

    def moved(self, data: str) -> Source:
        """The same data, which lies at ``data`` now.

        Raises:
            OovrecError: it was read by a data file, and ``data`` is none.
        """
        if is_data_file(data):  # which says the rest
            return Source(source=data, **self.model_dump(include={"name", *MARKS}))
        if is_data_file(self.source):
            what = f"is no data file, as '{self.source}' is, which said how to read the run's data"
            raise OovrecError(what, where=data, remedy="write one for where the data lies now")
        return self.model_copy(update={"source": data})

    def renewed(self, data: str) -> Source:
        """Another log, which is read as this one was.

        Raises:
            OovrecError: as :meth:`moved`.
        """
        return self.moved(data).model_copy(update=dict.fromkeys(("name", *MARKS), ""))

    @property
    def left_out(self) -> str:
        """What reading it left out, in words; '' where nothing."""
        if is_data_file(self.source):
            return "users and items with few interactions may be left out"
        few = f"users and items with fewer than {self.k_core} interactions are left out"
        return few if self.k_core > 1 else ""

    def load(self) -> Dataset:
        """Read it.

        Raises:
            OovrecError: as :func:`load_dataset`; or it is no longer the data that it was.
        """
        given = self.model_dump(include={"k_core", "tie_seed", "hold_out"})
        return self.verified(load_dataset(self.source, columns=self.columns, **given, name=self.name or None))

    def verified(self, dataset: Dataset) -> Dataset:
        """``dataset``, which must be what was found before, if anything was."""
        if self.fingerprint and dataset.fingerprint != self.fingerprint:
            what = f"is not the dataset '{self.name}' that the run was trained on"
            remedy = "give --data the one that was, or train again; 'recommend' takes a newer history by --history"
            raise OovrecError(what, where=self.source, remedy=remedy)
        return dataset

    def same_as(self, other: Source) -> bool:
        """Whether the same was found in both, what is said of items included."""
        return (self.fingerprint, self.described) == (other.fingerprint, other.described)

    def found(self, dataset: Dataset) -> Source:
        """The same with what reading it found, and a path that holds from any folder."""
        path = Path(self.source).expanduser()  # a link stays one: a data file's paths begin where it is asked for
        source = self.source if self.source in CATALOG else str(path.parent.resolve() / path.name)
        marks = {mark: getattr(dataset, mark) for mark in MARKS}
        return self.model_copy(update={"source": source, "name": dataset.name, **marks})

"""How often ``tokens audit`` is right: tokens of known origin, by every scheme and several settings, audited.

    python benchmarks/audit.py --data beauty [--shared ../shared] [--out results/audit]
    python benchmarks/audit.py --plot

Writes ``results/audit/<dataset>.json`` after every table audited, and goes on where it stopped. Tokens from the
training part are clean; so are those of schemes that look at no interactions, whatever they are handed. ``meta``'s
embeddings are learnt once a setting and clustered for each K as the scheme does, so that the study fits into minutes;
seeds and settings differ from those of the audit's references. Where a table has user tokens, the verdict on the item
tokens alone is kept too: it is that of the statistics that need no users, which do not change with them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from oovrec.app.audit import calibration
from oovrec.app.figures import write_png
from oovrec.data.dataset import Dataset
from oovrec.data.load import load_dataset
from oovrec.files import read_json, write_json
from oovrec.tokens.audit import Auditor
from oovrec.tokens.build import Material, build_tokens, methods
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.findings import deciding, overall
from oovrec.tokens.metapath import relations
from oovrec.tokens.naming import two_level_names
from oovrec.tokens.quality import SPLITS
from oovrec.tokens.schemes.meta import Config
from oovrec.tokens.skipgram import embed
from oovrec.tokens.table import TokenTable, read_table
from oovrec.tokens.walks import Graph

CLUSTERS = (20, 50, 100, 200, 400)
PAPER: dict[str, Any] = {"newest": 0, "successions": 0.0, "words": 0.0}  # walks along interactions alone
SETTINGS: tuple[dict[str, Any], ...] = (
    {},
    {"dimensions": 32, "epochs": 2},
    {"window": 2, "walks": 8},
    {"epochs": 2},
    {"newest": 3, "successions": 2.0, "words": 1.0},
)
SCHEMES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sequential", {}),
    ("independent", {}),
    *(("random", {"clusters": clusters}) for clusters in CLUSTERS),
    ("collaborative", {"tokens": 500}),
    ("collaborative", {"tokens": 200}),
    ("collaborative", {"tokens": 500, "branching": 50}),
)
SEMANTIC: tuple[dict[str, Any], ...] = ({"quantiser": "kmeans", "codes": 100}, {"quantiser": "kmeans", "codes": 256})
BLIND = ("random", "independent", "semantic")  # look at no interactions
FIRST_SEED = 101

Case = tuple[dict[str, Any], TokenTable, TokenTable | None]


def meta_cases(dataset: Dataset, done: set[str]) -> Iterator[Case]:
    for number, settings in enumerate(SETTINGS):
        for built_from in ("train", "all"):
            about = {"method": "meta", "from": built_from, "settings": settings, "seed": FIRST_SEED + number}
            wanted = [clusters for clusters in CLUSTERS if key({**about, "clusters": clusters}) not in done]
            if not wanted:
                continue
            material, config = Material.of(dataset, built_from), Config(**{**PAPER, **settings})
            graph = Graph.of(material.histories, len(dataset.items), relations(material, config))
            vectors = embed(graph, config, FIRST_SEED + number)[: len(dataset.users) + len(dataset.items)]
            degrees = np.concatenate([material.histories.lengths, material.popularity])
            parts = np.split(vectors, [len(dataset.users)]), np.split(degrees, [len(dataset.users)])
            for clusters in wanted:
                users, items = (
                    clustered(kind, ids, rows, degrees, clusters, FIRST_SEED + number)
                    for kind, ids, rows, degrees in zip("UI", (dataset.users, dataset.items), *parts, strict=True)
                )
                yield {**about, "clusters": clusters}, items, users


def clustered(
    kind: str, ids: list[str], vectors: np.ndarray, degrees: np.ndarray, clusters: int, seed: int
) -> TokenTable:
    seen, labels = np.flatnonzero(vectors.any(axis=1)), np.full(len(ids), clusters)
    labels[seen] = cosine_kmeans(vectors[seen], clusters, seed)[0]
    return TokenTable.of(ids, two_level_names(kind, labels, degrees, np.random.default_rng(seed)))


def scheme_cases(dataset: Dataset, done: set[str], schemes: tuple[tuple[str, dict[str, Any]], ...]) -> Iterator[Case]:
    for method, options in schemes:
        for built_from in ("train", "all"):
            about = {"method": method, "from": built_from, "settings": options, "seed": FIRST_SEED}
            about["clusters"] = options.get("clusters") or options.get("codes")
            if method not in methods() or key(about) in done or (method == "semantic" and built_from == "all"):
                continue
            tokens = build_tokens(dataset, method, built_from, FIRST_SEED, options)  # type: ignore[arg-type]
            yield about, tokens.items, tokens.users


def published_cases(dataset: Dataset, done: set[str], shared: Path) -> Iterator[Case]:
    folder = shared / "reference" / f"published_tokens_{dataset.name}"
    about = {"method": "published", "from": "all", "settings": {}, "seed": None, "clusters": 100}
    if folder.is_dir() and key(about) not in done:
        yield about, read_table(folder / "item_tokens.txt"), read_table(folder / "user_tokens.txt")


def key(about: dict[str, Any]) -> str:
    return repr([about[name] for name in ("method", "from", "settings", "seed", "clusters")])


def audited(auditor: Auditor, about: dict[str, Any], items: TokenTable, users: TokenTable | None) -> dict[str, Any]:
    start = time.perf_counter()
    found = auditor.audit(items, users)
    alone = {name: finding for name, finding in found.findings.items() if name != "users"}
    decided = [deciding([finding[split] for finding in alone.values()]) for split in SPLITS]
    return {
        **about,
        "truth": "leaky" if about["from"] == "all" and about["method"] not in BLIND else "clean",
        "groups": found.groups,
        "with_users": "users" in found.findings,
        "verdict": found.verdict,
        "items_alone": overall(decided),
        "log10_ratio": found.log10_ratio,
        "items_alone_log10_ratio": {split: finding.log10_ratio for split, finding in zip(SPLITS, decided, strict=True)},
        "findings": found.to_json()["findings"],
        "seconds": round(time.perf_counter() - start, 2),
    }


def rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Verdicts by truth, then by method and number of clusters; tables with users, and items alone."""
    counts: dict[str, Any] = {}
    for row in rows:
        for tokens, verdict in (("items and users", row["verdict"]), ("items alone", row["items_alone"])):
            if tokens == "items and users" and not row["with_users"]:
                continue
            for group in ("every table", f"{row['method']} {row['clusters'] or ''}".strip()):
                place = counts.setdefault(tokens, {}).setdefault(group, {}).setdefault(row["truth"], Counter())
                place[verdict] += 1
    return counts


def study(data: str, shared: Path, out: Path) -> None:
    folder = shared / "data" / data
    dataset = load_dataset(str(folder) if folder.is_dir() else data)
    path = out / f"{dataset.name}.json"
    rows = read_json(path)["rows"] if path.exists() else []
    done = {key(row) for row in rows}
    start = time.perf_counter()
    auditor = Auditor(dataset)
    preparing = round(time.perf_counter() - start, 1)
    semantic = tuple(("semantic", options) for options in SEMANTIC)
    for cases in (
        published_cases(dataset, done, shared),
        scheme_cases(dataset, done, SCHEMES),
        meta_cases(dataset, done),
        scheme_cases(dataset, done, semantic),
    ):
        for about, items, users in cases:
            rows.append(audited(auditor, about, items, users))
            row = rows[-1]
            print(row["method"], row["clusters"], row["truth"], row["verdict"], row["items_alone"], flush=True)
            about_data = {"dataset": dataset.name, "references": auditor.count, "seconds_before_first": preparing}
            write_json(path, {**about_data, "rates": rates(rows), "rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("results/audit"))
    parser.add_argument("--plot", action="store_true")
    arguments = parser.parse_args()
    for data in arguments.data:
        study(data, arguments.shared, arguments.out)
    if arguments.plot:
        studies = [read_json(path) for path in sorted(arguments.out.glob("*.json"))]
        write_png(calibration(studies), arguments.out / "rates.png")


if __name__ == "__main__":
    main()

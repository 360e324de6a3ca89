"""Cost of an edge as graphs grow: the fused walker and skip-gram, and k-means, each in a fresh process.

    python benchmarks/scaling.py [--edges 100000 300000 ...] [--walks 1] [--epochs 1] [--out results/speed/scaling]

The graphs are made up: a tenth as many users, and as many items, as edges, so nodes have ten edges on average. An
edge's item is drawn by the power law popularity ~ rank ** -0.75, in four of five cases among the items of the user's
community (communities of 200 users). Unless told otherwise there are one walk a node and one epoch, where ``meta``
makes five and three: the cost of a pair is about the same, that of an edge fifteen times less. The items' embeddings
are then clustered into the square root of their number. Memory is the peak beyond what the process holds with the
graph, or the embeddings, loaded (from ``/proc``, so on Linux; ``ru_maxrss`` would begin with the parent's peak);
nodes × dimensions × 4 bytes is one matrix, of which skip-gram has two. Processor time is that of all threads: on a
busy machine it is steadier than seconds on the clock, which are reported too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numba import config as numba_config

from oovrec.data.histories import Histories
from oovrec.evaluation.results import hardware, versions
from oovrec.files import atomic, write_json
from oovrec.tokens.clusters import cosine_kmeans
from oovrec.tokens.skipgram import SkipGramConfig, embed
from oovrec.tokens.walks import Graph

EDGES = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
DEGREE, COMMUNITY, OWN, EXPONENT = 10, 200, 0.8, 0.75
STAGES = ("skip-gram", "k-means")


def power_law_histories(edges: int, seed: int = 0) -> Histories:
    """Users' items by the law above; ``u`` and ``i`` are of communities ``u`` and ``i`` modulo their number."""
    rng, nodes = np.random.default_rng(seed), edges // DEGREE
    communities = max(nodes // COMMUNITY, 1)
    users = np.sort(rng.integers(nodes, size=edges, dtype=np.int32))
    rank = rng.random(edges, np.float32) ** np.float32(1 / (1 - EXPONENT))  # inverse of the cumulated popularity
    own = (rank * (nodes // communities)).astype(np.int32) * communities + users % communities
    items = np.where(rng.random(edges, np.float32) < OWN, own, (rank * nodes).astype(np.int32))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=nodes))])
    return Histories(indptr, np.minimum(items, nodes - 1).astype(np.int32), np.arange(nodes))


def save_graph(folder: Path, edges: int) -> None:
    """Make the graph and keep its arrays in ``folder``."""
    graph = Graph.of(power_law_histories(edges), edges // DEGREE)
    for name, value in vars(graph).items():
        np.save(folder / f"{name}.npy", value)


def load_graph(folder: Path) -> Graph:
    values = {path.stem: np.load(path) for path in folder.glob("*.npy") if path.stem in Graph.__dataclass_fields__}
    return Graph(**{name: value.item() if value.ndim == 0 else value for name, value in values.items()})


def measured(task: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What ``task`` returns, its times, and by how much it raised the peak of memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, wall, processor = memory("VmRSS"), time.perf_counter(), time.process_time()
    value = task()
    seconds, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = memory("VmHWM") - before
    return value, {"seconds": seconds, "processor_seconds": processor, "peak_bytes": peak}


def memory(field: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def skip_gram(folder: Path, config: SkipGramConfig) -> dict[str, Any]:
    embed(Graph.of(Histories.of([[0, 1], [1, 0]]), 2), config.model_copy(update={"epochs": 1}), seed=0)  # compiles
    graph = load_graph(folder)
    vectors, figures = measured(lambda: embed(graph, config, seed=0))
    np.save(folder / "items.npy", vectors[graph.users : graph.users + graph.items][graph.degrees[graph.users :] > 0])
    walkers = int((graph.degrees > 0).sum())
    pairs = walkers * config.walks * config.epochs * pairs_of_a_walk(config)
    return {"nodes": len(graph.degrees), "with_edges": walkers, "pairs": round(pairs), **figures}


def pairs_of_a_walk(config: SkipGramConfig) -> float:
    """The expected number: those ``b`` steps apart are kept if the drawn window reaches so far."""
    reach, length = config.window, config.walk_length
    return sum(2 * max(length - b, 0) * (reach - b + 1) / reach for b in range(1, reach + 1))


def k_means(folder: Path, _: SkipGramConfig) -> dict[str, Any]:
    cosine_kmeans(np.random.default_rng(0).normal(size=(100, 8)), 5, seed=0)  # compiles
    vectors = np.load(folder / "items.npy")
    clusters = round(len(vectors) ** 0.5)
    (labels, centroids), figures = measured(lambda: cosine_kmeans(vectors, clusters, seed=0))
    lengths = np.linalg.norm(vectors, axis=1)
    cosine = float(np.mean([(vectors[k] * centroids[labels[k]]).sum() / lengths[k] for k in range(len(vectors))]))
    return {"points": len(vectors), "clusters": clusters, "mean_cosine": cosine, **figures}


def run(edges: int, config: SkipGramConfig) -> dict[str, Any]:
    """Both stages of one size, each in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        save_graph(Path(folder), edges)
        result: dict[str, Any] = {"edges": edges}
        for stage in STAGES:
            options = ["--stage", stage, "--folder", folder, "--config", config.model_dump_json()]
            command = [sys.executable, __file__, *options]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            result[stage] = json.loads(output.splitlines()[-1])
    first, second, matrix = result["skip-gram"], result["k-means"], result["skip-gram"]["nodes"] * config.dimensions * 4
    first["microseconds_an_edge"] = first["processor_seconds"] / edges * 1e6
    first["nanoseconds_a_pair"] = first["processor_seconds"] / first["pairs"] * 1e9
    first["peak_over_a_matrix"] = first["peak_bytes"] / matrix
    second["microseconds_an_edge"] = second["processor_seconds"] / edges * 1e6
    second["peak_over_its_points"] = second["peak_bytes"] / (second["points"] * config.dimensions * 4)
    return result


def line(result: dict[str, Any]) -> str:
    """One size in words."""
    first, second = result["skip-gram"], result["k-means"]
    return (
        f"{result['edges']:>10,} edges  skip-gram {first['processor_seconds']:6.1f} s, "
        f"{first['microseconds_an_edge']:.2f} µs an edge, {first['nanoseconds_a_pair']:.0f} ns a pair, "
        f"{first['peak_bytes'] / 2**20:,.0f} MiB = {first['peak_over_a_matrix']:.1f} matrices; "
        f"k-means {second['processor_seconds']:5.1f} s, {second['clusters']} clusters"
    )


def picture(results: list[dict[str, Any]], machine: str) -> Figure:
    """Processor time an edge, and memory against nodes × dimensions, by edges."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    cost, room = figure.subplots(1, 2)
    edges = [result["edges"] for result in results]
    for stage in STAGES:
        cost.plot(edges, [result[stage]["microseconds_an_edge"] for result in results], marker="o", label=stage)
    cost.set(xscale="log", xlabel="edges", title="processor time, µs an edge", ylim=(0, None))
    room.plot(edges, [result["skip-gram"]["peak_bytes"] / 2**20 for result in results], marker="o", label="skip-gram")
    matrices = [r["skip-gram"]["peak_bytes"] / r["skip-gram"]["peak_over_a_matrix"] / 2**20 for r in results]
    room.plot(edges, matrices, linestyle="--", color="grey", label="nodes × dimensions × 4 bytes")
    room.set(xscale="log", yscale="log", xlabel="edges", title="memory beyond the graph, MiB")
    for axes in (cost, room):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(machine, fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edges", type=int, nargs="+", default=EDGES)
    parser.add_argument("--walks", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="without its suffix: .json and .png are written")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--config", type=SkipGramConfig.model_validate_json, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        stage = skip_gram if arguments.stage == "skip-gram" else k_means
        print(json.dumps(stage(arguments.folder, arguments.config)))
        return
    config = SkipGramConfig(walks=arguments.walks, epochs=arguments.epochs)
    results = []
    for edges in arguments.edges:
        results.append(result := run(edges, config))
        print(line(result), flush=True)
    machine = f"{hardware()}, {numba_config.NUMBA_NUM_THREADS} threads"
    if arguments.out:
        about = {"hardware": hardware(), "threads": numba_config.NUMBA_NUM_THREADS, "load": os.getloadavg()[0]}
        write_json(
            arguments.out.with_suffix(".json"),
            {**about, "versions": versions(), "config": config.model_dump(), "sizes": results},
        )
        with atomic(arguments.out.with_suffix(".png")) as temporary:
            picture(results, machine).savefig(temporary, format="png", dpi=160)


if __name__ == "__main__":
    main()

"""A run behind its API: rows ``serve-together-<system>`` of the speed table.

    python benchmarks/serving.py RUN [--clients N] [--requests N]

Requests a second for the best ten after users' histories, asked of the application itself (no network). ``ours``: so
many clients at once, each asking again as soon as it is answered, so that requests share batches; ``stock``: the same
with batches of one. Settings also say how long one request takes that comes alone.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time

import httpx2
import rows  # before torch
import torch

from oovrec.app.runs import Run, load_run
from oovrec.app.serve import TOGETHER, Service, application


async def rate(run: Run, bodies: list[dict[str, object]], clients: int, most: int) -> float:
    """Requests a second of ``clients`` at once, at most ``most`` in a batch."""
    transport = httpx2.ASGITransport(application(Service(run, None, most)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://run") as client:
        left = iter(bodies)

        async def ask() -> None:
            for body in left:
                answer = await client.post("/recommend", json=body)
                assert len(answer.json()) == body["k"], answer.text

        await client.post("/recommend", json=bodies[0])
        start = time.perf_counter()
        await asyncio.gather(*(ask() for _ in range(clients)))
        return len(bodies) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--requests", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    run = load_run(options.run)
    dataset = run.dataset()
    histories = itertools.cycle([[dataset.items[item] for item in history] for history in dataset.full])
    bodies = [{"history": history, "k": 10} for history in itertools.islice(histories, options.requests)]

    def median(clients: int, most: int, asked: list[dict[str, object]]) -> float:
        return statistics.median(asyncio.run(rate(run, asked, clients, most)) for _ in range(options.repeats))

    ours, stock = median(options.clients, TOGETHER, bodies), median(options.clients, 1, bodies[:256])
    settings = {
        "data": dataset.name,
        "items": len(dataset.items),
        "clients": options.clients,
        "alone_ms": round(1e3 / median(1, 1, bodies[:64]), 2),
        "repeats": options.repeats,
        "threads": torch.get_num_threads(),
    }
    row = rows.row(f"serve-together-{run.model.name}", "requests/s", ours, stock, settings, ratio=ours / stock)
    print(row["name"], row["ours"], row["stock"], row["ratio"], settings)
    print(rows.write(row))


if __name__ == "__main__":
    main()

"""Questions that come one by one, answered in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Puts the questions that come while others are answered into one batch.

    Args:
        answer: answers a batch, in its order, in a thread of its own.
        most: questions a batch.
        within: what the thread enters before it answers.
    """

    def __init__(self, answer: Callable[[list[Q]], list[A]], most: int, within: AbstractContextManager[Any]) -> None:
        self._answer, self._most = answer, most
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, initializer=within.__enter__)

    async def __call__(self, question: Q) -> A:
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            lot, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            questions, futures = zip(*lot, strict=True)
            try:
                answers = await loop.run_in_executor(self._thread, self._answer, list(questions))
            except Exception as error:  # whoever asked is told
                for future in futures:
                    _settle(future, future.set_exception, error)
                continue
            for future, answer in zip(futures, answers, strict=True):
                _settle(future, future.set_result, answer)

    def close(self) -> None:
        self._thread.shutdown()


def _settle(future: asyncio.Future[A], settle: Callable[[Any], None], value: Any) -> None:
    if not future.cancelled():  # who asked may have gone
        settle(value)

"""What a worded model was trained to do beside ranking after a history, and its figures: P5's other tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from oovrec.data.dataset import Dataset
from oovrec.data.histories import Histories
from oovrec.decoding.greedy import greedy
from oovrec.errors import OovrecError
from oovrec.evaluation.protocol import Figures, Split, evaluate
from oovrec.evaluation.ratings import evaluate_ratings, references
from oovrec.evaluation.texts import texts_block
from oovrec.language.packed import Packed
from oovrec.language.wordings import GROUPS, RANKING, Group, Task
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.models.generative.samples import WRITTEN, written_texts

MOST_WRITTEN = 2000  # texts that are written for an evaluation


def rate(model: GenerativeRecommender, histories: Histories, items: np.ndarray, group: Group = "seen") -> np.ndarray:
    """``[n]`` the rating that each history's user is expected to give to an item ``[n]``.

    The mean of the scale under the model's distribution over it, which has the least squared error.

    Args:
        group: whose first wording is used.

    Raises:
        OovrecError: the model was not trained to rate.
    """
    prompts = _prompts(model, "rating", histories, items, group)
    assert model.ratings is not None
    shares = model.answered(prompts, model.ratings.to(model.device)).double().exp()
    expected: np.ndarray = shares.cpu().numpy() @ np.asarray(model.entities.scale)
    return expected


@torch.no_grad()
def write(
    model: GenerativeRecommender,
    task: Task,
    histories: Histories,
    items: np.ndarray,
    ratings: np.ndarray | None = None,
    group: Group = "seen",
) -> list[str]:
    """What each history's user might write about an item ``[n]``, the most probable word at each step.

    Args:
        task: ``explanation`` or ``review``.
        ratings: ``[n]`` what a review goes with, as positions in the scale.
        group: whose first wording is used.

    Raises:
        OovrecError: the model was not trained to.
    """
    prompts, tokenizer = _prompts(model, task, histories, items, group, ratings), model.vocabulary.tokenizer
    words = torch.arange(model.vocabulary.someone, device=model.device)  # all that is older than the OOV tokens
    texts: list[str] = []
    with model.module.answering():
        for part in model.chunks(prompts, model.config.words):
            written = greedy(model.stepper(part), words, tokenizer.eos_token_id, model.config.words)
            texts += tokenizer.batch_decode(written, skip_special_tokens=True)
    return [text.strip() for text in texts]


def _prompts(
    model: GenerativeRecommender,
    task: Task,
    histories: Histories,
    items: np.ndarray,
    group: Group,
    ratings: np.ndarray | None = None,
) -> Packed:
    if not model.config.tasks.share(task):
        remedy = f"train with --set model.tasks.{task}=0.5"
        raise OovrecError(f"the model was not trained for the task '{task}'", where=model.name, remedy=remedy)
    first = np.zeros(len(items), np.int64)
    return model.prompter.packed(histories, model.prompter.wordings(task, first, group, ratings), items)


def task_figures(model: GenerativeRecommender, dataset: Dataset, split: Split) -> dict[str, Figures]:
    """By task the figures of what :meth:`scores` alone does not tell; of a model without wordings, none.

    ``sequential`` and ``direct``: ``raw`` and ``masked`` ranks under each group's first wording, but the one that
    the main figures are of; ``rating``: RMSE and MAE, and the references'; ``explanation``, ``review``: BLEU and ROUGE.
    """
    if not model.worded:
        return {}
    found: dict[str, Figures] = {}
    for task in model.config.tasks.mixed():
        if task == "direct" and model.vocabulary.users is None:
            continue  # it would know nothing
        groups = GROUPS[1:] if task == "sequential" else GROUPS
        found[task] = {}
        for group in groups:
            found[task] |= _FIGURES[task](model, dataset, split, task, group)
        if task == "rating":
            found[task] |= references(dataset, split)
    return found


def _ranking(model: GenerativeRecommender, dataset: Dataset, split: Split, task: Task, group: Group) -> Figures:
    blocks = evaluate(partial(model.scores, task=task, group=group), dataset, split).blocks()
    return {f"{group}_{name}": blocks[name] for name in ("raw", "masked")}


def _rating(model: GenerativeRecommender, dataset: Dataset, split: Split, task: Task, group: Group) -> Figures:
    return {group: evaluate_ratings(partial(rate, model, group=group), dataset, split)}


def _writing(model: GenerativeRecommender, dataset: Dataset, split: Split, task: Task, group: Group) -> Figures:
    """For users with a text about their held-out item; of many a sample, always the same."""
    every, where = written_texts(dataset, task), dataset.target_positions(split)
    rows = np.flatnonzero(every[where] != "") if every is not None else where[:0]
    if not len(rows):
        return {}
    if len(rows) > MOST_WRITTEN:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_WRITTEN, replace=False))
    assert every is not None
    ratings = None
    if task == "review":
        assert dataset.scale is not None
        assert dataset.ratings is not None
        ratings = np.abs(dataset.ratings[where[rows], None] - dataset.scale).argmin(axis=1)  # the nearest of the scale
    histories, items = dataset.histories(split).take(rows), dataset.targets(split)[rows]
    written = write(model, task, histories, items, ratings, group)
    return {group: texts_block(written, every[where[rows]].tolist())}


_FIGURES: dict[Task, Callable[..., Figures]] = {
    **dict.fromkeys(RANKING, _ranking),
    "rating": _rating,
    **dict.fromkeys(WRITTEN, _writing),
}

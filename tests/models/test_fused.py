"""The kernels for cards against torch's own operations; without a card Triton's interpreter runs them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from oovrec.data.dataset import Dataset
from oovrec.models.entities import Entities
from oovrec.models.generative import attention, t5, t5_layers
from oovrec.models.generative.t5 import T5

pytest.importorskip("triton", reason="Triton is for Linux on x86")
CARD = torch.cuda.is_available()
from oovrec.models import fused  # noqa: E402

DEVICE, KIND = ("cuda", torch.bfloat16) if CARD else ("cpu", torch.float16)  # the interpreter has no bf16 products
LIKE = {"rtol": 0, "atol": 0.02}
HIDDEN = torch.finfo(torch.float32).min


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, device=DEVICE).to(KIND)


def hidden(ends: Tensor, known: int) -> Tensor:
    """A bias that hides what comes from each end on, ``[batch, 1, 1, known]``."""
    return torch.where(torch.arange(known, device=DEVICE) < ends[:, None], 0.0, HIDDEN)[:, None, None]


def plain(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | int) -> Tensor:
    """Attention of ``[..., n, heads, w]`` in float32."""
    queries, keys, values = (x.float().transpose(-3, -2) for x in (queries, keys, values))
    return (torch.softmax(queries @ keys.mT + bias, -1) @ values).transpose(-3, -2)


@pytest.mark.parametrize(("asked", "known"), [(1, 1), (3, 50), (21, 37), (70, 70), (150, 8)])
@pytest.mark.parametrize("width", [16, 64])
def test_attention_with_biases_of_places_and_ends_equals_plain_products(asked: int, known: int, width: int) -> None:
    batch, heads = 3, 4
    queries = drawn(batch, asked, heads, width) / width**0.5
    keys, values = drawn(batch, heads, known, width).transpose(1, 2), drawn(batch, known, heads, width)
    position = torch.randn(heads, asked, known + 5, device=DEVICE)[..., :known]
    ends = torch.tensor([known, max(1, known // 2), 1], device=DEVICE)
    torch.testing.assert_close(fused.attend(queries, keys, values).float(), plain(queries, keys, values, 0), **LIKE)
    found = fused.attend(queries, keys, values, ends, position)
    expected = plain(queries, keys, values, position + hidden(ends, known))
    torch.testing.assert_close(found.float(), expected, **LIKE)


def test_rows_of_queries_may_attend_to_chosen_rows_of_keys() -> None:
    queries, keys, values = drawn(3, 5, 2, 16), drawn(6, 40, 2, 16), drawn(6, 40, 2, 16)
    ends, rows = torch.arange(6, 36, 5, device=DEVICE), torch.tensor([4, 0, 4], device=DEVICE)
    found = fused.attend(queries, keys, values, ends, rows=rows)
    expected = plain(queries, keys[rows], values[rows], hidden(ends, 40)[rows])
    torch.testing.assert_close(found.float(), expected, **LIKE)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_paths_attend_to_themselves_and_to_the_token_they_share(shared: bool, depth: int) -> None:
    batch, count, heads, width = 2, 19, 4, 16
    queries, keys, values = (drawn(batch, count, depth, heads, width) for _ in range(3))
    start = (drawn(batch, 1, 1, heads, width), drawn(batch, 1, 1, heads, width)) if shared else None
    key = torch.arange(depth + shared, device=DEVICE)
    bias = torch.randn(heads, depth, len(key), device=DEVICE)
    bias += torch.where(key <= key[int(shared) :, None], 0.0, HIDDEN)
    found = fused.attend_to_paths(queries, keys, values, start, bias)
    if start is not None:
        whole = (batch, count, 1, heads, width)
        keys, values = (torch.cat([x.expand(whole), y], 2) for x, y in zip(start, (keys, values), strict=True))
    torch.testing.assert_close(found.float(), plain(queries, keys, values, bias), **LIKE)


@pytest.mark.parametrize("width", [48, 1024])
def test_a_change_is_added_in_place_and_the_sum_normed(width: int) -> None:
    states, change, weight = torch.randn(2, 7, width, device=DEVICE), drawn(2, 7, width), torch.rand(width).to(DEVICE)
    kept, total = states.clone(), states + change
    first = fused.add_norm_(states, None, weight, 1e-6, torch.float32)
    torch.testing.assert_close(states, kept, rtol=0, atol=0)
    torch.testing.assert_close(first, F.rms_norm(kept, (width,), weight, 1e-6))
    second = fused.add_norm_(states, change, weight, 1e-6, KIND)
    torch.testing.assert_close(states, total)
    torch.testing.assert_close(second.float(), F.rms_norm(total, (width,), weight, 1e-6), rtol=1e-2, atol=1e-3)


def test_a_product_and_its_activation_are_one() -> None:
    x, weight = drawn(2, 5, 16), torch.randn(24, 16, device=DEVICE)
    expected = F.relu(x.float() @ weight.to(KIND).float().T)
    torch.testing.assert_close(fused.linear_relu(x, weight).float(), expected, rtol=1e-2, atol=1e-2)


@pytest.fixture
def model(entities: Entities) -> T5:
    made = T5(T5.Config(shape="debug"), entities)
    for parameter in made.module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.module.to(DEVICE).eval()
    return made


@pytest.fixture
def fusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let the model use the kernels, in float32."""

    def use() -> None:
        for module in (attention, t5, t5_layers):
            monkeypatch.setattr(module, "is_fused", lambda *_: True)

    return use


LIKE_32 = {"rtol": 1e-2, "atol": 1e-2} if CARD else {"rtol": 1e-4, "atol": 1e-4}  # a card's products have fewer bits


@torch.no_grad()
def test_a_t5_scores_and_searches_as_without_them(model: T5, chains: Dataset, fusing: Callable[[], None]) -> None:
    users = chains.histories("test").take(slice(0, 6))
    scores, best = model.scores(users), model.recommend(users, 3)
    fusing()
    torch.testing.assert_close(model.scores(users), scores, **LIKE_32)
    found = model.recommend(users, 3).scores
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(best.scores), **LIKE_32)


@torch.no_grad()
def test_prompts_that_stay_keep_their_own_memory(model: T5, chains: Dataset, fusing: Callable[[], None]) -> None:
    prompts = model.prompts(chains.histories("test").take(slice(0, 6)))
    paths = torch.from_numpy(model.vocabulary.items[:3, :1]).to(DEVICE)[None]
    whole = model.stepper(prompts).extend(paths)
    fusing()
    stepper = model.stepper(prompts)
    for rows in ([4, 1, 3, 0], [2, 0, 3]):  # of the batch the prompts 4, 1, 3 and 0, then of these 3, 4 and 0
        stepper = stepper.take(torch.tensor(rows, device=DEVICE))
    torch.testing.assert_close(stepper.extend(paths), whole[[3, 4, 0]], **LIKE_32)
    torch.testing.assert_close(stepper.root(), model.stepper(prompts).root()[[3, 4, 0]], **LIKE_32)

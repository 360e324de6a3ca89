"""Exported checkpoints, as plain transformers loads them, against the runs they come from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedModel

import oovrec
from oovrec.app import export as exporting
from oovrec.app.export import export
from oovrec.app.folders import begin
from oovrec.app.recipe import parse_recipe
from oovrec.app.runs import Run, load_run
from oovrec.app.source import Source
from oovrec.data.histories import Histories
from oovrec.decoding.catalogue import Catalogue
from oovrec.errors import OovrecError
from oovrec.models.base import configured, system
from oovrec.models.entities import Entities
from oovrec.models.generative.base import GenerativeRecommender
from oovrec.tokens.table import Tokens, TokenTable

ITEMS, USERS = 13, 5
HISTORIES = [[1, 2, 3], [4], [7, 7, 1, 0, 12, 5]]


def entities() -> Entities:
    """Ids of two and three tokens."""
    rng = np.random.default_rng(0)
    centroids = {f"<CI{n}>": rng.normal(size=6) for n in range(4)}
    names = [(f"<CI{n % 4}>", f"<I{1001 + n // 4}>", *(["<D1>"] if n % 3 else [])) for n in range(ITEMS)]
    items = TokenTable.of([f"i{n}" for n in range(ITEMS)], names, centroids)
    users = TokenTable.of([f"u{n}" for n in range(USERS)], [(f"<CU{n % 2}>", f"<U{n}>") for n in range(USERS)])
    return Entities(items.ids, users.ids, [f"Film {n}" for n in range(ITEMS)], Tokens(items, users, "meta", "all", 0))


def kept(name: str, options: dict[str, Any], folder: Path, of: Entities | None = None) -> Run:
    """A run folder of a model with random weights, without training."""
    torch.manual_seed(0)
    model = system(name)(configured(name, {"shape": "debug", **options}), of or entities())
    for parameter in model.module.parameters():  # far from initialisation, so that every term counts
        torch.nn.init.normal_(parameter, std=0.2)
    values = {"system": name, "model": model.config.model_dump(), "tokens": {"method": "meta", "from": "all"}}
    begin(Run(folder, parse_recipe(values, "test"), Source(source="films.csv", name="films")), 0.0)
    model.save(folder)
    return load_run(folder)


def cases() -> Iterator[tuple[str, bool, dict[str, Any]]]:
    """System, whether its tables are tied, options."""
    for name in ("llama", "t5"):
        for tied in (True, False):
            for augments in ("both", "input", "output"):
                yield name, tied, {"augments": augments, "alpha": 0.7}
        yield name, True, {"augmentation": "none"}
        yield name, True, {"augmentation": "mlp", "alpha": 0.7, "augments": "input"}
        yield name, True, {"spelling": "pieces"}
    yield "llama", True, {"form": "prompt"}
    yield "llama", True, {"form": "prompt", "spelling": "pieces"}


def named(case: tuple[str, bool, dict[str, Any]]) -> str:
    return "-".join([case[0], "tied" if case[1] else "untied", *map(str, case[2].values())])


@pytest.fixture(scope="module", params=list(cases()), ids=named)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    name, tied, options = request.param
    shapes, folder = system(name).shapes, tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(shapes, "debug", {**shapes["debug"], "tie_word_embeddings": tied})
        run = kept(name, options, folder / "run")
    assert (run.model.module.head is None) == tied
    return run, export(run, folder / "plain")


def plain(folder: Path) -> PreTrainedModel:
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    return (AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM).from_pretrained(folder).eval()


@torch.no_grad()
def test_logits_are_the_runs(exported: tuple[Run, Path]) -> None:
    """Over the whole vocabulary, for the first token and for those after each first token."""
    run, folder = exported
    model, loaded = run.model, plain(folder)
    model.module.eval()
    words = torch.arange(len(model.vocabulary))
    firsts = torch.unique(torch.from_numpy(model.vocabulary.items[:, 0]))
    for items, user in zip(HISTORIES, (0, -1, 3), strict=True):
        history = Histories.of([items], users=[user])
        stepper = model.read(history)
        states = torch.cat([stepper.root(), stepper.extend(firsts[None, :, None])[0]])
        ours = list(states @ stepper.rows(words).T)
        prompt = torch.from_numpy(model.prompts(history).ids)[None]
        if model.causal:
            theirs = [loaded(torch.cat([prompt, t.view(1, 1)], dim=1)).logits[0, -2:] for t in firsts]
        else:
            start = torch.tensor([[loaded.config.decoder_start_token_id]])
            theirs = [
                loaded(input_ids=prompt, decoder_input_ids=torch.cat([start, t.view(1, 1)], dim=1)).logits[0]
                for t in firsts
            ]
        for logits, (before, after) in zip(ours[1:], theirs, strict=True):
            assert (ours[0] - before).abs().max() < 1e-5
            assert (logits - after).abs().max() < 1e-5
        assert max(logits.abs().max() for logits in ours) > 0.05


def test_a_beam_as_wide_as_the_catalogue_ranks_it_as_the_run_does(exported: tuple[Run, Path]) -> None:
    """With nothing but the exported folder; prompts of several lengths in one batch."""
    run, folder = exported
    loaded, tokenizer, catalogue = plain(folder), AutoTokenizer.from_pretrained(folder), Catalogue.load(folder)
    prompts = [run.model.prompt(np.array(items), -1).tolist() for items in HISTORIES]
    prompt = tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
    out = loaded.generate(
        **prompt,
        logits_processor=[catalogue.processor(prompt.input_ids)],
        num_beams=ITEMS,
        num_return_sequences=ITEMS,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = np.array(catalogue.items(out.sequences)).reshape(len(HISTORIES), ITEMS)
    exact = run.model.recommend(Histories.of(HISTORIES), ITEMS, mask_seen=False)
    assert all(sorted(row) == sorted(run.model.entities.items) for row in found)
    np.testing.assert_allclose(out.sequences_scores.view(found.shape).numpy(), exact.scores, atol=1e-4)
    assert found[:, 0].tolist() == [run.model.entities.items[best] for best in exact.items[:, 0]]


def test_a_beam_that_ended_without_an_item_is_refused_in_a_sentence(exported: tuple[Run, Path]) -> None:
    _, folder = exported
    loaded, catalogue = plain(folder), Catalogue.load(folder)
    prompt, beams = torch.tensor([[3, 4, 5]]), 4 * ITEMS
    processors = [catalogue.processor(prompt)]
    written = loaded.generate(prompt, logits_processor=processors, num_beams=beams, num_return_sequences=beams)
    with pytest.raises(
        OovrecError, match=r"^sequences: sequence \d+ is no item of the 13; give generate the processor"
    ):
        catalogue.items(written)


def test_tables_are_stored_once_where_they_are_one(exported: tuple[Run, Path]) -> None:
    run, folder = exported
    loaded = plain(folder)
    tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
    options = run.model.config
    same = options.augmentation == "none" or options.augments == "both"
    assert tied == (same and run.model.module.head is None)
    assert len(loaded.get_input_embeddings().weight) == loaded.config.vocab_size == len(run.model.vocabulary)


def test_the_card_says_what_it_is_and_its_example_runs(
    exported: tuple[Run, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run, folder = exported
    card = (folder / "README.md").read_text()
    assert "# META ID (" in card
    assert "`tokens_from: all` (the tokens saw held-out items" in card
    assert "Not evaluated." in card
    in_pieces = run.recipe.model["spelling"] == "pieces"
    assert ("tokenizer(" in card, "tokenizer.convert_tokens_to_ids(" in card) in (
        [(True, False), (False, True)] if in_pieces else [(True, False)]
    )
    worded = run.recipe.model.get("form") != "history"
    assert ("`user_tokens.tsv` names" in card) == (folder / "user_tokens.tsv").exists() == worded
    assert ("filled up with `<end>`" in card) != worded
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(code.splitlines()) <= 10
    monkeypatch.chdir(folder)
    exec(code, {})
    best = run.model.recommend(Histories.of([[0, 1, 2]]), 10, mask_seen=False)
    printed = re.findall(r"'(i\d+)'", capsys.readouterr().out)
    assert len(set(printed)) == 10
    assert printed[0] == f"i{best.items[0, 0]}"


def test_the_card_counts_items_tokens_and_what_a_prompt_shows(tmp_path: Path) -> None:
    run = kept("llama", {"history": 7}, tmp_path / "run")
    card = " ".join((export(run, tmp_path / "plain") / "README.md").read_text().split())
    assert "continues a history by one of 13 items, each named by tokens of the vocabulary, 3 at most." in card
    assert "A prompt shows at most 7 items, oldest first" in card


def test_a_catalogue_smaller_than_a_beam_is_given_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Each item once: a beam that is wider would be filled up with what is there already."""
    items = TokenTable.of([f"i{n}" for n in range(4)], [(f"<CI{n % 2}>", f"<I{n}>") for n in range(4)])
    few = Entities(items.ids, ["u0"], None, Tokens(items, None, "meta", "all", 0))
    folder = export(kept("llama", {}, tmp_path / "run", few), tmp_path / "plain")
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder)
    exec(code, {})
    assert sorted(re.findall(r"'(i\d)'", capsys.readouterr().out)) == few.items


def test_a_backbone_without_a_token_to_pad_with_gets_one(tmp_path: Path) -> None:
    made = kept("llama", {}, tmp_path / "made")
    words, backbone = made.model.vocabulary.tokenizer, tmp_path / "backbone"
    made.model.module.plain().save_pretrained(backbone)
    words.pad_token = None
    words.save_pretrained(backbone)
    options = {"backbone": str(backbone), "form": "prompt", "spelling": "pieces"}
    folder = export(kept("llama", options, tmp_path / "run"), tmp_path / "plain")
    two = AutoTokenizer.from_pretrained(folder)(["a prompt", "a longer prompt"], padding=True)
    assert [0 in mask for mask in two.attention_mask] == [True, False]
    assert "# META ID (Llama, backbone) on" in (folder / "README.md").read_text()


def test_the_folder_holds_nothing_else(exported: tuple[Run, Path]) -> None:
    run, folder = exported
    users = {"user_tokens.tsv"} if (folder / "user_tokens.tsv").exists() else set()
    models = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in folder.iterdir()} == {*models, "item_tokens.tsv", "items.tsv", "README.md", *users}
    assert (folder / "items.tsv").read_text().splitlines()[3] == "i3\tFilm 3"
    line = (folder / "item_tokens.tsv").read_text().splitlines()[3]
    if run.model.config.spelling == "tokens":
        assert line == "i3\t<CI3>\t<I1001>"
    else:
        assert "".join(line.split("\t")[1:]).replace("▁", "") == "item_3_1001"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["plain", "run"]


def test_a_trained_run_with_its_figures(oovrec, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    assert oovrec("export", finished, "--out", out).stdout.strip() == str(out)
    measured = json.loads((finished / "metrics.json").read_text())
    card = (out / "README.md").read_text()
    assert "`tokens_from: train`." in card
    for block in ("raw", "masked", "later_day_raw", "later_day_masked"):
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {block}, {measured[block]['users']} users")]
        low, high = measured[block]["ci"]["ndcg@10"]
        assert f"{measured[block]['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]" in row
    assert measured["hardware"] in card
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}  # others may serve it


def test_figures_of_what_has_learnt_from_more_say_so(finished: Path, tmp_path: Path) -> None:
    run = kept("llama", {}, tmp_path / "run")
    shutil.copy(finished / "metrics.json", run.folder)
    retrained = replace(run, recipe=run.recipe.model_copy(update={"until": "test"}))
    card = (export(retrained, tmp_path / "plain") / "README.md").read_text()
    assert "The whole catalogue is ranked" in card
    assert card.endswith(" It has learnt from what validates too.\n")


def test_python_says_the_same(tmp_path: Path) -> None:
    run = kept("llama", {}, tmp_path / "run")
    assert oovrec.export(str(run.folder), str(tmp_path / "plain")) == tmp_path / "plain"


@pytest.mark.parametrize("name", ["sasrec", "popularity"])
def test_a_system_without_a_language_model_is_refused(name: str, oovrec, finished: Path, tmp_path: Path) -> None:
    ended = oovrec("export", finished / "references" / name, "--out", tmp_path / "plain", code=2)
    assert f"'{name}' is no language model, so transformers cannot load it; export a run of " in ended.stderr
    assert not list(tmp_path.iterdir())


def test_bad_input(oovrec, finished: Path, tmp_path: Path) -> None:
    for run, out, sentence in (
        (tmp_path, "plain", "holds no run"),
        (finished, ".", "is there already and is not empty"),
    ):
        (tmp_path / "something").touch()
        ended = oovrec("export", run, "--out", tmp_path / out, code=2)
        assert sentence in ended.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    run = kept("llama", {}, tmp_path / "run")
    (run.folder / "model.safetensors").unlink()
    with pytest.raises(OovrecError, match="its training is not finished"):
        export(run, tmp_path / "plain")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    run = kept("llama", {}, tmp_path / "run")
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    with pytest.raises(OovrecError, match=rf"^{tmp_path}/plain: cannot write \(No space left on device\); free some"):
        export(run, tmp_path / "plain")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_export_that_breaks_off_leaves_nothing(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept("llama", {}, tmp_path / "run")

    def broken(*_: object) -> None:
        raise stop

    monkeypatch.setattr(exporting, "_card", broken)  # the last part
    with pytest.raises((KeyboardInterrupt, OovrecError)):
        export(run, tmp_path / "plain")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_catalogue_that_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = export(kept("llama", {}, tmp_path / "run"), tmp_path / "plain")
    table = folder / "item_tokens.tsv"
    table.write_text(table.read_text() + "i99\t<CI1>\t<I77>\n")
    with pytest.raises(OovrecError, match=r"item_tokens\.tsv: has the token <I77>, which is none of the tokenizer's"):
        Catalogue.load(folder)
    table.write_text("")
    with pytest.raises(OovrecError, match=r"item_tokens\.tsv: is empty; give a folder"):
        Catalogue.load(folder)
    table.unlink()
    with pytest.raises(OovrecError, match="give a folder made by 'oovrec export'"):
        Catalogue.load(folder)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    run = kept("t5", {"augments": "input"}, tmp_path / "run")
    model = run.model
    assert isinstance(model, GenerativeRecommender)
    before, state = model.scores(Histories.of(HISTORIES)), torch.random.get_rng_state()
    export(run, tmp_path / "plain")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(model.scores(Histories.of(HISTORIES)), before)

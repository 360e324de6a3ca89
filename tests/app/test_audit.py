"""``tokens audit``: the verdict on published tokens, what it prints, writes and refuses."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from matplotlib.image import imread

from oovrec.app.audit import COLOURS, _given, calibration, figure, tables
from oovrec.data.load import load_dataset
from oovrec.tokens import audit as audits
from oovrec.tokens import references
from oovrec.tokens.audit import Audit
from oovrec.tokens.findings import Finding

KEYS = {
    *("verdict", "splits", "log10_ratio", "p_clean", "findings", "lift", "repeats", "groups", "references"),
    *("artefacts", "notes"),
}
FINDING = Finding(0.4, 0.5, 0.1, 0.5, 0.05, 0.1, 13.9, 6e-16, "leaky")
RUNS = {"clean": [[0.5, 0.1, 0.2], [0.6, 0.2, 0.1]], "leaky": [[0.5, 0.5, 0.6], [0.6, 0.7, 0.6]], "texts": []}


@pytest.fixture(scope="module", autouse=True)
def _few_references() -> object:
    """As for large data: three references of a kind, learnt briefly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audits, "SMALL", 0)
        patch.setattr(references, "SMALL", 0)
        yield


@pytest.fixture(scope="module")
def ids(log: Path) -> tuple[list[str], list[str]]:
    """Items and users of the log."""
    with log.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return sorted({row["item_id"] for row in rows}), sorted({row["user_id"] for row in rows})


@pytest.fixture(scope="module")
def files(ids: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Token files of both kinds: ours for items, the published form for users."""
    folder, (items, users) = tmp_path_factory.mktemp("tokens"), ids
    lines = [f"{item}\t<CI{place % 4}>\t<I{place}>" for place, item in enumerate(items)]
    (folder / "items.tsv").write_text("\n".join(lines) + "\n")
    lines = [f"{user} <CT{place % 5}><{1001 + place}>" for place, user in enumerate(users)]
    (folder / "users.txt").write_text("\n".join(lines) + "\n")
    return folder / "items.tsv", folder / "users.txt"


def test_json_and_files_hold_the_documented_keys(oovrec, log: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    items, users = files
    words = ["tokens", "audit", log, "--items", items, "--users", users]
    printed = oovrec(*words, "--json", "--out", tmp_path / "out").stdout
    found = json.loads(printed)
    assert set(found) == KEYS
    assert found["verdict"] in {"clean", "leaky", "undecided"}
    assert set(found["findings"]) == {"items", "next", "users"}
    assert found["groups"] == {"items": [4], "users": [5]}
    for statistic in found["findings"].values():
        for finding in statistic.values():
            assert set(finding) == set(Finding.__dataclass_fields__)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["audit.json", "audit.png"]
    assert json.loads((tmp_path / "out" / "audit.json").read_text()) == found
    height, width, _ = imread(tmp_path / "out" / "audit.png").shape
    assert (width, height > width / 2) == (1240, True)
    refused = oovrec(*words, "--out", tmp_path / "out", code=2)
    assert "is there already and is not empty; choose another --out." in refused.stderr


def test_a_token_folder_is_audited_with_its_vectors_and_users(oovrec, log: Path, tmp_path: Path) -> None:
    oovrec("tokens", "build", log, "--method", "metavec", "--out", tmp_path / "tokens", "--set", "epochs=1")
    of_folder, of_file = (
        json.loads(oovrec("tokens", "audit", log, "--items", path, "--json").stdout)
        for path in (tmp_path / "tokens", tmp_path / "tokens" / "item_tokens.tsv")
    )
    assert (set(of_folder["findings"]), set(of_file["findings"])) == ({"items", "next", "users"}, {"order", "next"})
    assert of_folder["groups"]["items"][0] > 1
    assert of_folder["groups"]["users"][0] > 1
    assert "vectors" in of_file["notes"][0]


def test_the_table_shows_what_json_does(oovrec, log: Path, files: tuple[Path, Path]) -> None:
    words = ["tokens", "audit", log, "--items", files[0]]
    found, shown = json.loads(oovrec(*words, "--json").stdout), oovrec(*words).stdout
    assert shown.startswith(f"verdict: {found['verdict']} (")
    for finding in found["findings"]["items"].values():
        for value in ("excess", "deviation", "if_clean", "if_leaky", "probe"):
            assert f"{finding[value]:.3f}" in shown
        assert f"{finding['log10_ratio']:+.1f}" in shown
    assert f"{found['repeats']['given']['test']:.3f}" in shown
    assert found["lift"] is None
    assert "log-lift" not in shown


def without_line(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("i3\t"))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            without_line,
            "items.tsv: has no tokens for 'i3'; build or import tokens that name all of this dataset's ids.",
        ),
        (
            lambda text: text.replace("<CI1>\t<I5>", "<CI1>\t<I1>"),
            "items.tsv, line 6: repeats the token tuple of line 2",
        ),
        (lambda text: text.replace("<CI1>\t<I5>", "CI1 I5"), "items.tsv, line 6: is not an id followed by <tokens>"),
        (lambda text: text + text.splitlines()[0], "items.tsv, line 33: repeats the id of line 1"),
        (lambda _: "", "items.tsv: is empty"),
    ],
)
def test_a_spoilt_file_is_refused_with_its_place(
    oovrec, log: Path, files: tuple[Path, Path], tmp_path: Path, spoil, sentence: str
) -> None:
    spoilt = tmp_path / "items.tsv"
    spoilt.write_text(spoil(files[0].read_text()))
    result = oovrec("tokens", "audit", log, "--items", spoilt, "--out", tmp_path / "out", code=2)
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_users_without_tokens_are_named_with_the_file(oovrec, log: Path, files: tuple[Path, Path]) -> None:
    result = oovrec("tokens", "audit", log, "--items", files[0], "--users", files[0], code=2)
    assert re.search(r"items.tsv: has no tokens for 'u\d+' and 59 more;", result.stderr)


def test_too_small_data_is_told(oovrec, tmp_path: Path) -> None:
    log = tmp_path / "short.csv"
    log.write_text("user,item\n" + "".join(f"u{user},i{item}\n" for user in range(9) for item in range(3)))
    tokens = tmp_path / "items.tsv"
    tokens.write_text("".join(f"i{item}\t<C>\t<{item}>\n" for item in range(3)))
    result = oovrec("tokens", "audit", log, "--k-core", 1, "--items", tokens, code=2)
    assert "too few users have two training and two held-out items; give data in which users have" in result.stderr


def audit_of(artefacts: list[audits.Artefact]) -> Audit:
    findings = {"items": {"validation": FINDING, "test": FINDING}}
    splits = {"validation": "leaky", "test": "leaky"}
    numbers = dict.fromkeys(splits, 1.0)
    groups = {"items": [4], "users": []}
    made = (findings, None, None, groups, {"items": RUNS}, artefacts, ["a note"])
    return Audit("leaky", splits, numbers, numbers, *made)  # type: ignore[arg-type]


def test_named_artefacts_are_warned_of_loudly() -> None:
    named = audits.Artefact("last token", 0.97, 0.52, 0.45, 1e-9, True)
    other = audits.Artefact("tuple", 0.51, 0.5, 0.01, 0.7, False)
    lines = [str(part) for part in tables(audit_of([other, named]))]
    warnings = [line for line in lines if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "same_day_order: in the order of the last token, 97.0% of targets" in warnings[0]
    assert "52.0% of those of a later day (p 1e-09)" in warnings[0]
    assert lines[-1] == "note: a note"


def test_the_picture_shows_every_reference_and_the_tokens() -> None:
    drawn = figure(audit_of([]))
    assert [axes.get_title("left") for axes in drawn.axes] == [
        f"{split}, items named alike: leaky" for split in ("validation", "test")
    ]
    for column, axes in enumerate(drawn.axes, 1):
        dots = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"}
        assert dots == {
            f"{kind} references": [[run[0], run[column]] for run in RUNS[kind]] for kind in ("clean", "leaky")
        }
    labels = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert labels == ["clean references", "leaky references", "these tokens"]


def test_the_calibrations_bars_are_shares_of_the_verdicts() -> None:
    rates = {
        "items alone": {"every table": {"clean": {"clean": 3, "undecided": 1}, "leaky": {"leaky": 2}}},
        "items and users": {"every table": {"clean": {"clean": 5}, "leaky": {"undecided": 1, "leaky": 3}}},
    }
    drawn = calibration([{"dataset": "toy", "rates": rates}])
    clean, leaky = (
        [
            [bar.get_width() for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2) == row][:3]
            for row in (0, 1)
        ]
        for axes in drawn.axes
    )
    assert clean == [[1, 0, 0], [0.75, 0.25, 0]]  # items and users come first
    assert leaky == [[0, 0.25, 0.75], [0, 0, 1]]
    assert [text.get_text() for text in drawn.axes[0].texts] == ["5", "3", "1"]
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == [
        "toy, items and users",
        "toy, items alone",
    ]
    assert [patch.get_facecolor() for patch in drawn.legends[0].get_patches()] == [
        bar.patches[0].get_facecolor() for bar in drawn.axes[0].containers[-3:]
    ]
    assert len({COLOURS[verdict] for verdict in ("clean", "undecided", "leaky")}) == 3


def test_published_tokens_come_out_leaky(oovrec, shared: Path) -> None:
    published = shared / "reference" / "published_tokens_beauty"
    if not published.is_dir() or not (shared / "data" / "beauty").is_dir():
        pytest.skip("no Beauty data and published tokens beside the checkout")
    words = ["--items", published / "item_tokens.txt", "--users", published / "user_tokens.txt"]
    found = json.loads(oovrec("tokens", "audit", shared / "data" / "beauty", *words, "--json").stdout)
    assert found["verdict"] == "leaky"
    assert min(found["log10_ratio"].values()) > 3
    assert max(found["p_clean"].values()) < 1e-3
    # the project's own notes: train / validation / test lift 1.24 / 1.15 / 1.03 from the published tokens
    assert found["lift"]["given"] == pytest.approx({"train": 1.24, "validation": 1.15, "test": 1.03}, abs=0.02)
    assert found["lift"]["clean"]["validation"] < 0.7
    items_alone = found["findings"]["items"]
    assert {finding["verdict"] for finding in items_alone.values()} == {"leaky"}


def test_the_picture_gives_these_tokens_two_deviations_either_way() -> None:
    for axes in figure(audit_of([])).axes:
        (bar,) = axes.containers
        (segments,) = [lines.get_segments() for lines in bar.lines[2]]
        assert [low_or_high for _, low_or_high in segments[0].tolist()] == [
            FINDING.excess - 2 * FINDING.deviation,
            FINDING.excess + 2 * FINDING.deviation,
        ]


def test_tokens_may_stand_in_any_order(log: Path, files: tuple[Path, Path], tmp_path: Path) -> None:
    lines = files[0].read_text().splitlines()
    turned = tmp_path / "items.tsv"
    turned.write_text("\n".join(reversed(lines)) + "\n")
    dataset = load_dataset(log)
    table, _ = _given(dataset, turned, None)
    names = {item: "".join(words) for item, *words in (line.split("\t") for line in lines)}
    assert table.ids == dataset.items
    assert [table.text(item) for item in range(len(table))] == [names[item] for item in dataset.items]

"""Tables that come from ranks pass; what cannot be is named, and by as much as closed forms say."""

from __future__ import annotations

import json
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oovrec.app.consistency_table import consistency
from oovrec.app.tables import show
from oovrec.errors import OovrecError
from oovrec.evaluation.consistency import Consistency, check_table
from oovrec.evaluation.metrics import hit, ndcg

HALF = 0.00005  # half a unit of the fourth decimal
SOUND = {"hit@5": 0.0401, "hit@10": 0.0603, "ndcg@5": 0.0302, "ndcg@10": 0.0367}


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def check(tmp_path: Path) -> Any:
    return lambda value: check_table(write(tmp_path / "table.json", value))


def one(check: Any, **changed: float) -> Consistency:
    row = SOUND | {name.replace("_", "@"): value for name, value in changed.items()}
    return check({"A": {"toys": row}})


def test_published_table_has_the_seven_rows_of_the_design(shared: Path) -> None:
    report = check_table(shared / "reference" / "published_results.json")
    assert (report.rows, report.decimals) == (42, 4)
    assert {finding.place: finding.suspects[0].metric for finding in report.findings} == {
        ("SID", "beauty"): "ndcg@10",
        ("META ID (L)", "sports"): "ndcg@10",
        ("META ID (L)", "beauty"): "ndcg@10",
        ("META ID (L)", "toys"): "ndcg@10",
        ("TIGER", "toys"): "ndcg@10",
        ("RID", "sports"): "ndcg@10",
        ("RID", "beauty"): "ndcg@10",
    }
    first = {finding.place: finding.suspects[0] for finding in report.findings}
    assert first["SID", "beauty"].high == pytest.approx(0.0229 + HALF + (0.0609 - 0.0404 + 2 * HALF) / log2(7))
    assert 0.026 < first["SID", "beauty"].excess < 0.0271  # .0573 where at most .0302 can be
    slight = {place for place, suspect in first.items() if suspect.units < 5}
    assert slight == {("RID", "sports"), ("RID", "beauty")}


RANKS = st.lists(st.integers(1, 30), min_size=1, max_size=400)
CUTOFFS = st.sets(st.integers(1, 25), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(RANKS, CUTOFFS, st.integers(2, 7))
def test_what_comes_from_ranks_passes_at_any_cutoffs_and_precision(
    tmp_path_factory: pytest.TempPathFactory, ranks: list[int], cutoffs: set[int], decimals: int
) -> None:
    row = {}
    for k in cutoffs:
        row[f"hit@{k}"] = round(float(hit(np.array(ranks), k).mean()), decimals)
        row[f"ndcg@{k}"] = round(float(ndcg(np.array(ranks), k).mean()), decimals)
    text = json.dumps({"A": {"toys": row}, "B": {"toys": {"hit@1": "PLACE"}}})
    text = text.replace('"PLACE"', f"{0:.{decimals}f}")  # the precision, though a row's figures may end in zeros
    report = check_table(write(tmp_path_factory.getbasetemp() / "ranks.json", text))
    assert report.decimals == decimals
    assert report.findings == []


@pytest.mark.parametrize("decimals", [4, 6])
@pytest.mark.parametrize(("k", "m"), [(5, 10), (1, 3), (10, 50)])
def test_last_ndcg_may_be_what_the_closed_form_allows_and_no_more(check: Any, k: int, m: int, decimals: int) -> None:
    small, large, gain = 0.2, round(0.2613173, decimals), 0.2 if k == 1 else 0.15
    half = 0.5 * 10**-decimals
    low = gain - half + (large - small - 2 * half) / log2(m + 1)
    high = gain + half + (large - small + 2 * half) / log2(k + 2)
    if k == 1:  # there hit and ndcg are one figure
        low, high = small - half + (large - small) / log2(m + 1), small + half + (large - small) / log2(k + 2)
    unit = 2 * half

    def table(last: float) -> Consistency:
        row = {f"hit@{k}": small, f"ndcg@{k}": gain, f"hit@{m}": large, f"ndcg@{m}": last}
        cells = ", ".join(f'"{name}": {value:.{decimals}f}' for name, value in row.items())
        return check(f'{{"A": {{"toys": {{{cells}}}}}}}')

    below, above = np.floor((low - half) / unit) * unit, np.ceil((high + half) / unit) * unit
    assert table(below + unit).findings == []
    assert table(above - unit).findings == []
    for wrong, bound in ((below, low), (above, high)):
        (finding,) = table(wrong).findings
        suspect = finding.suspects[0]
        assert suspect.metric == f"ndcg@{m}"
        assert suspect.excess == pytest.approx(abs(wrong - bound) - half, abs=unit / 500)
        assert suspect.units == pytest.approx(suspect.excess / unit)
        assert finding.spread > 0


def test_sound_table_is_sound(check: Any) -> None:
    assert one(check).findings == []


@pytest.mark.parametrize(
    ("changed", "possible"),
    [
        ({"ndcg_10": 0.0291}, "at least"),  # below ndcg@5
        ({"hit_10": 0.0391, "ndcg_10": 0.0302}, "hit@"),  # below hit@5
        ({"ndcg_5": 0.0411, "ndcg_10": 0.0476}, ""),  # above hit@5
        ({"ndcg_5": 0.0151, "ndcg_10": 0.0216}, ""),  # below hit@5 / log2(6) = .0155
    ],
)
def test_each_bound_alone_is_kept(check: Any, changed: dict[str, float], possible: str) -> None:
    (finding,) = one(check, **changed).findings
    assert finding.place == ("A", "toys")
    assert possible in finding.reason


def test_hit_and_ndcg_at_one_are_the_same(check: Any) -> None:
    assert check({"A": {"toys": {"hit@1": 0.0211, "ndcg@1": 0.0212}}}).findings == []  # .02115 both, rounded two ways
    (finding,) = check({"A": {"toys": {"hit@1": 0.0211, "ndcg@1": 0.0213}}}).findings
    assert finding.suspects[0].units == pytest.approx(1, abs=0.001)


def test_recall_is_hit(check: Any) -> None:
    for one, other in (("HR@5", "Recall@5"), ("hits@5", "Hit@5")):
        (finding,) = check({"A": {"toys": {one: 0.05, other: 0.07}}}).findings
        assert {suspect.metric for suspect in finding.suspects} == {one, other}


def test_suspects_are_what_alone_would_mend_the_row(check: Any) -> None:
    (finding,) = one(check, hit_5=0.0251).findings  # ndcg@5 .0302 needs hit@5 of as much
    assert "hit@5" in {suspect.metric for suspect in finding.suspects}
    for suspect in finding.suspects:
        middle = (suspect.low + suspect.high) / 2
        changed = {"hit_5": 0.0251, suspect.metric.replace("@", "_"): round(middle, 4)}
        assert one(check, **changed).findings == []


def test_figures_that_no_single_change_mends(check: Any) -> None:
    row = {"hit@1": 0.1, "ndcg@1": 0.2, "hit@5": 0.5, "ndcg@5": 0.1, "hit@10": 0.3, "ndcg@10": 0.05}
    (finding,) = check({"A": {"toys": row}}).findings
    assert finding.suspects == []
    assert finding.spread >= 0.1 - HALF  # hit@10 and hit@5 must meet half way
    assert "more than one" in finding.reason


def test_percentages_are_no_shares(check: Any) -> None:
    (finding,) = check({"A": {"toys": {"hit@5": 3.87, "ndcg@5": 2.49}}}).findings
    assert "divide percentages by 100" in finding.reason
    assert [suspect.metric for suspect in finding.suspects] == ["hit@5", "ndcg@5"]
    assert finding.spread == pytest.approx(2.87 - 0.005)  # the larger one must come down to 1
    (finding,) = check({"A": {"toys": {"hit@5": -0.01}}}).findings
    assert finding.suspects[0].excess == pytest.approx(0.005)
    assert "no share is negative" in finding.reason


def test_precision_is_the_tables_not_the_cells(check: Any) -> None:
    """0.03 beside figures of four decimals is 0.0300; in a table of two decimals it may be .0349."""
    coarse = {"hit@5": 0.04, "hit@10": 0.06, "ndcg@5": 0.03, "ndcg@10": 0.03}
    assert check({"A": {"toys": coarse}}).findings == []
    (finding,) = check({"A": {"toys": coarse}, "B": {"toys": SOUND}}).findings
    assert finding.place == ("A", "toys")
    assert check('{"A": {"toys": {"hit@5": 0.0400, "hit@10": 0.06, "ndcg@5": 0.03, "ndcg@10": 0.03}}}').findings


def test_files_of_ours_pass_at_full_precision(check: Any) -> None:
    ranks = np.random.default_rng(0).integers(1, 40, 997)
    block = {f"{name}@{k}": float(of(ranks, k).mean()) for name, of in (("hit", hit), ("ndcg", ndcg)) for k in (5, 10)}
    extra = {"mrr": 0.2, "ci": {"hit@5": [0.1, 0.2]}, "users": 997}
    file = {"system": "sasrec", "seed": 0, "raw": {**block, **extra}, "masked": {**block, **extra}}
    assert check(file) == Consistency(2, 9, [])
    file["masked"] = {**block, "ndcg@10": block["ndcg@10"] + 0.1}
    assert [finding.place for finding in check(file).findings] == [("masked",)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"A": \n{"toys": }}', "table.json, line 2: is not valid JSON"),
        ("[1, 2]", "table.json: is not a JSON object"),
        ("", "table.json: is empty"),
        ('{"A": {"toys": {"hit@5": "high"}}}', "table.json, A → toys: 'hit@5' is \"high\", which is no number"),
        ('{"A": {"toys": {"hit@5": null}}}', "table.json, A → toys: 'hit@5' is null, which is no number"),
        ('{"A": {"toys": {"hit@5": true}}}', "'hit@5' is true, which is no number"),
        ('{"A": {"toys": {"ndcg@10": NaN}}}', "'ndcg@10' is \"NaN\", which is no number"),
        ('{"A": {"toys": {"ndcg@10": 1e999}}}', "which is no number"),
        ('{"A": {"toys": {"precision@5": 0.1}}}', "A → toys: has no hit@k and no ndcg@k, but 'precision@5'"),
        ('{"A": {"hit@5": 0.1}, "A": {"hit@5": 0.2}}', "table.json: the key 'A' is there twice; give each row a name"),
        ('{"B": 1, "A": {"hit@5": 0.1}, "A": {"hit@5": 0.2}}', "table.json: the key 'A' is there twice"),
        ('{"A": {"toys": {"hit@0": 0.1}}}', "A → toys: has no hit@k and no ndcg@k, but 'hit@0'"),
        ('{"A": {"hit@' + "9" * 30 + '": 0.1}}', "A: has no hit@k and no ndcg@k, but 'hit@999"),
        ('{"A": {"precision@5": 0.1, "auc": 0.2, "map": 0.3}}', "A: has no hit@k and no ndcg@k, but 'auc'"),
        ('{"A": {}}', "table.json: holds no hit@k and no ndcg@k"),
        ('{"note": "nothing here"}', "table.json: holds no hit@k and no ndcg@k"),
    ],
)
def test_bad_input_gets_a_sentence(check: Any, text: str, sentence: str) -> None:
    with pytest.raises(OovrecError) as error:
        check(text)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match=r"none\.json: no such file"):
        check_table(tmp_path / "none.json")


def test_table_names_the_row_and_the_size(check: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show(*consistency(one(check, ndcg_10=0.0291)))
    printed = " ".join(capsys.readouterr().out.split())
    least = 0.0302 - HALF + (0.0202 - 2 * HALF) / log2(11)
    assert f"A / toys ndcg@10 is 0.0291; the others allow at least {least:.5f}" in printed
    assert f"{least - 0.0291 - HALF:.5f}" in printed
    assert "1 row checked at 4 decimals: 1 cannot be right." in printed
    show(*consistency(one(check)))
    assert "all can be right" in capsys.readouterr().out


def test_json_is_plain(check: Any) -> None:
    values = json.loads(json.dumps(one(check, ndcg_10=0.0291).to_json(), allow_nan=False))
    assert values["findings"][0]["place"] == ["A", "toys"]
    assert values["findings"][0]["suspects"][0]["metric"] == "ndcg@10"


def test_there_are_no_more_users_than_all(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text('{"A": {"toys": {"ndcg@1": 0.9000, "ndcg@10": 0.9700}}}')
    (finding,) = check_table(path).findings
    most = 0.90005 + (1 - 0.90005) / log2(3)  # whoever is not first is second
    both = (0.97 - HALF - most) / (2 - 1 / log2(3))  # ndcg@1 as much higher as ndcg@10 lower
    assert finding.spread == pytest.approx(both, abs=1e-7)
    assert finding.suspects[0].metric == "ndcg@10"
    assert finding.suspects[0].high == pytest.approx(most, abs=1e-6)


def test_what_lies_beside_rows_or_in_place_of_them_is_left_alone(check: Any) -> None:
    assert check({"results": "of the paper", "A": {"toys": SOUND}, "B": {}}) == Consistency(1, 4, [])


def test_figures_without_a_decimal_place_are_whole(check: Any) -> None:
    report = check('{"A": {"toys": {"hit@5": 3E+1}}}')
    assert report.decimals == 0
    assert report.findings[0].suspects[0].excess == pytest.approx(30 - 1 - 0.5)

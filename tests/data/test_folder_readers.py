"""Formats of several files: P5, RecBole, MovieLens and Amazon folders as their publishers describe them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from oovrec.data.columns import Columns
from oovrec.data.interactions import Interactions
from oovrec.data.readers import read
from oovrec.errors import OovrecError


def folder(path: Path, files: dict[str, str]) -> Path:
    """A folder with the given files; names in ``.gz`` are packed."""
    for name, text in files.items():
        data = text.encode("latin-1" if name.endswith(".dat") else "utf-8")
        (path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


P5 = {
    "user_sequence.txt": "u2 b a\nu1 a c a\n",
    "times.tsv.gz": "user\titem\tunix_time\nu2\tb\t5\nu2\ta\t5\nu1\ta\t1\nu1\tc\t2\nu1\ta\t9\n",
    "item_text.tsv": "a\tan a\nb\ta b\n\nzz\tof no sequence\n",
    "item_attributes.json": '{"a": [1, 2], "b": []}',
}
P5_ROWS = [("u2", "b", 5), ("u2", "a", 5), ("u1", "a", 1), ("u1", "c", 2), ("u1", "a", 9)]


def test_p5_folder(tmp_path: Path) -> None:
    log = read(folder(tmp_path, P5))
    assert log.frame.rows() == P5_ROWS
    data = log.dataset("d")
    assert data.titles == ["a b", "an a", ""]
    assert data.attributes == [(), (1, 2), ()]
    assert [history.tolist() for history in data.full] == [[0, 1], [1, 2, 1]]


def test_p5_file_alone_is_read_without_its_companions(tmp_path: Path) -> None:
    log = read(folder(tmp_path, P5) / "user_sequence.txt")
    assert log.frame.rows() == [row[:2] for row in P5_ROWS]
    assert (log.titles, log.attributes) == (None, None)


@pytest.mark.parametrize("name", ["LOG.TXT", "log.txt.gz", "log.TXT.GZ"])
def test_p5_file_of_any_case_or_packed(tmp_path: Path, name: str) -> None:
    text = P5["user_sequence.txt"].encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.lower().endswith(".gz") else text)
    assert read(tmp_path / name).frame.rows() == [row[:2] for row in P5_ROWS]


def test_p5_companions_may_have_blanks_around_ids(tmp_path: Path) -> None:
    padded = {"times.tsv.gz": P5["times.tsv.gz"].replace("b\t5", " b \t 5 "), "item_text.tsv": "a \tan a\n"}
    log = read(folder(tmp_path, P5 | padded))
    assert (log.frame.rows(), log.titles) == (P5_ROWS, {"a": "an a"})


def test_p5_refuses_column_options(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match="fixed columns; leave out the column options"):
        read(folder(tmp_path, P5), Columns(user="user"))


RECBOLE = {
    "toy.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t3\t881250949\n2\t20\t4.5\t7\n",
    "toy.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\tcountry:token\n"
    '10\tA "B" C\t1995\tAction Comedy\tUSA\n20\tD\t\tComedy\t\n',
}


@pytest.mark.parametrize("name", ["", "toy.inter"])
def test_recbole_atomic_files(tmp_path: Path, name: str) -> None:
    log = read(folder(tmp_path, RECBOLE) / name)
    assert log.frame.rows() == [("1", "10", 881250949, 3.0), ("2", "20", 7, 4.5)]
    assert log.titles == {"10": 'A "B" C (1995)', "20": "D"}
    assert log.attributes == {"10": (1, 2, 3), "20": (2,)}  # Action, Comedy, USA; Comedy


def test_recbole_files_in_capitals(tmp_path: Path) -> None:
    capitals = {name.upper(): text for name, text in RECBOLE.items()}
    log = read(folder(tmp_path, capitals))
    assert log.titles == {"10": 'A "B" C (1995)', "20": "D"}
    assert read(tmp_path / "TOY.INTER").frame.equals(log.frame)


def test_recbole_ids_have_no_blanks_around_them_in_either_file(tmp_path: Path) -> None:
    files = {name: text.replace("\n10\t", "\n 10\t").replace("\t10\t", "\t10 \t") for name, text in RECBOLE.items()}
    log = read(folder(tmp_path, files))
    assert log.frame["item"].to_list() == ["10", "20"]
    assert log.titles == {"10": 'A "B" C (1995)', "20": "D"}
    assert log.notes == ["blanks around ids were removed in 1 of 2 rows"]


def test_recbole_without_items_and_with_named_columns(tmp_path: Path) -> None:
    folder(tmp_path, {"toy.inter": "session:token\tprice:token\nu\ti\nu\tj\n"})
    log = read(tmp_path, Columns(user="session", item="price"))
    assert log.frame.rows() == [("u", "i"), ("u", "j")]
    assert (log.titles, log.attributes) == (None, None)


def test_recbole_items_under_a_name_of_their_own(tmp_path: Path) -> None:
    files = {name: text.replace("item_id", "price") for name, text in RECBOLE.items()}
    assert read(folder(tmp_path, files), Columns(item="price")).titles == {"10": 'A "B" C (1995)', "20": "D"}


def test_recbole_titles_go_before_other_names(tmp_path: Path) -> None:
    text = "item_id:token\tbrand_name:token_seq\ttitle:token_seq\n10\tAcme\tSoap\n20\tAcme\tBrush\n"
    log = read(folder(tmp_path, RECBOLE | {"toy.item": text}))
    assert log.titles == {"10": "Soap", "20": "Brush"}
    assert log.attributes == {"10": (1,), "20": (1,)}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("toy.item", "item_id:token\ttitle:token_seq\n10\tA\n\tB\n", r"toy\.item, line 3: names no item; fill it in"),
        (
            "toy.item",
            "item_id:token\ta:token\ta:float\n10\tA\t1\n",
            r"toy\.item, line 1: has two columns 'a'; give one",
        ),
        (
            "toy.inter",
            "user_id:token\titem_id:token\tt:float\tt:token\nu\ti\t1\t1\n",
            r"inter, line 1: has two columns 't'",
        ),
    ],
)
def test_recbole_files_that_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(OovrecError, match=says):
        read(folder(tmp_path, RECBOLE | {name: text}))


def test_recbole_features_need_not_be_titles(tmp_path: Path) -> None:
    files = RECBOLE | {"toy.item": "item_id:token\tprice:float\n10\t1.5\n"}
    log = read(folder(tmp_path, files))
    assert (log.titles, log.attributes) == (None, None)


MOVIELENS_DAT = {  # the lines of the README of MovieLens-1M
    "ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
    "movies.dat": "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
    "1193::Mis\xe9rables: Les (1995)::Drama|Musical\n7::Less::\n",
}
MOVIELENS_CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1193,5.0,978300760\n1,661,3.0,978302109\n2,1193,4.0,978298413\n",
    "movies.csv": "movieId,title,genres\n661,James and the Giant Peach (1996),Animation|Children's|Musical\n"
    "1193,Mis\xe9rables: Les (1995),Drama|Musical\n9,Nothing,(no genres listed)\n7,Less,\n",
}


@pytest.mark.parametrize("files", [MOVIELENS_DAT, MOVIELENS_CSV], ids=["dat", "csv"])
def test_movielens(tmp_path: Path, files: dict[str, str]) -> None:
    log = read(folder(tmp_path, files))
    rows = [("1", "1193", 978300760, 5.0), ("1", "661", 978302109, 3.0), ("2", "1193", 978298413, 4.0)]
    assert log.frame.select("user", "item", "time", "rating").rows() == rows
    assert log.titles is not None
    assert log.titles["1193"] == "Mis\xe9rables: Les (1995)"
    assert log.attributes is not None
    assert {film: log.attributes[film] for film in ("661", "1193")} == {"661": (1, 2, 3), "1193": (4, 3)}
    assert log.attributes.get("9", ()) == log.attributes["7"] == ()
    assert log.titles["7"] == "Less"


@pytest.mark.parametrize(("files", "end"), [(MOVIELENS_DAT, ".dat"), (MOVIELENS_CSV, ".csv")], ids=["dat", "csv"])
def test_movielens_ids_have_no_blanks_around_them_in_either_file(
    tmp_path: Path, files: dict[str, str], end: str
) -> None:
    padded = {f"ratings{end}": files[f"ratings{end}"].replace("661", " 661"), f"movies{end}": files[f"movies{end}"]}
    padded[f"movies{end}"] = padded[f"movies{end}"].replace("1193", "1193 ")
    log = read(folder(tmp_path, padded))
    assert log.frame["item"].to_list() == ["1193", "661", "1193"]
    assert log.titles is not None
    assert set(log.titles) >= {"661", "1193"}
    assert log.notes == ["blanks around ids were removed in 1 of 3 rows"]


REVIEWS = [
    {"reviewerID": "A1", "asin": "B01", "reviewText": "fine\u2028indeed", "overall": 5.0, "unixReviewTime": 1391040000},
    {"reviewerID": "A1", "asin": "B02", "summary": "meh", "overall": 2.0, "unixReviewTime": 1318896000},
]
LINES = "".join(json.dumps(review, ensure_ascii=False) + "\n" for review in REVIEWS)
ABOUT_2014 = (
    "{'asin': 'B01', 'title': 'A \"fine\" brush', 'brand': 'Acme', 'related': {'also_bought': ['B02', 'B03']}, "
    "'categories': [['Beauty', 'Tools'], ['Beauty', 'Brushes']]}\n"
    "{'asin': 'B03', 'title': 'of no review'}\n{'asin': 'B02', 'categories': [['Beauty']]}\n"
)
ABOUT_2018 = (
    '{"category": ["Beauty", "Tools", "Brushes"], "title": "A \\"fine\\" brush", "brand": "Acme", "asin": "B01"}\n'
    '{"category": ["Beauty"], "title": "", "brand": "", "asin": "B02"}\n'
)
ABOUT_2023 = (
    '{"title": "A \\"fine\\" brush", "store": "Acme", "categories": ["Beauty", "Tools", "Brushes"], '
    '"parent_asin": "B01"}\n'
    '{"title": null, "store": null, "categories": ["Beauty"], "parent_asin": "B02"}\n'
)
CSV_2023 = "user_id,parent_asin,rating,timestamp\nA1,B01,5.0,1391040000123\nA1,B02,2.0,1318896000000\n"


@pytest.mark.parametrize(
    "files",
    [
        {"reviews_Beauty_5.json.gz": LINES, "meta_Beauty.json.gz": ABOUT_2014},
        {"All_Beauty_5.json.gz": LINES, "meta_All_Beauty.json.gz": ABOUT_2018},
        {"All_Beauty.csv": CSV_2023, "meta_All_Beauty.jsonl": ABOUT_2023},
    ],
    ids=["2014", "2018", "2023"],
)
def test_amazon_of_every_year(tmp_path: Path, files: dict[str, str]) -> None:
    log = read(folder(tmp_path, files))
    rows = [("A1", "B01", 1391040000, 5.0), ("A1", "B02", 1318896000, 2.0)]
    assert log.frame.select("user", "item", "time", "rating").rows() == rows
    if "All_Beauty.csv" not in files:
        data = log.dataset("d")  # B02 came first
        assert data.summaries.tolist() == ["meh", ""]
        assert data.reviews.tolist() == ["", "fine indeed"]
    assert log.titles == {"B01": 'A "fine" brush', "B02": ""}
    assert log.attributes == {"B01": (1, 2, 3, 4), "B02": (2,)}  # Acme, Beauty, Tools, Brushes


def test_amazon_numbers_may_be_texts_and_ids_numbers(tmp_path: Path) -> None:
    line = '{"reviewerID": 7, "asin": 1400501466, "overall": "5.0", "unixReviewTime": "1391040000"}\n'
    about = '{"asin": "1400501466", "title": "A", "category": "Hair care"}\n'
    log = read(folder(tmp_path, {"X_5.json.gz": line + line, "meta_X.json.gz": about}))
    assert log.frame.select("user", "item", "time", "rating").rows() == 2 * [("7", "1400501466", 1391040000, 5.0)]
    assert log.attributes == {"1400501466": (1,)}  # one category, and not its letters


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_movielens_10m_is_utf8(tmp_path: Path, encoding: str) -> None:
    """As GroupLens' README of it says; the 1M is Latin-1."""
    folder(tmp_path, MOVIELENS_DAT)
    (tmp_path / "movies.dat").write_text(MOVIELENS_DAT["movies.dat"], encoding=encoding)
    titles = read(tmp_path).titles
    assert titles is not None
    assert (titles["661"], titles["1193"]) == ("James and the Giant Peach (1996)", "Mis\xe9rables: Les (1995)")


def test_amazon_notes_are_kept(tmp_path: Path) -> None:
    log = read(folder(tmp_path, {"B.csv": CSV_2023.replace("A1,B01", "A1 ,B01"), "meta_B.jsonl": ABOUT_2023}))
    assert log.notes == ["blanks around ids were removed in 1 of 2 rows"]


def test_metadata_is_data_and_never_run(tmp_path: Path) -> None:
    evil = "{'asin': 'B01', 'title': open('written', 'w')}\n"
    folder(tmp_path, {"reviews_X_5.json.gz": LINES, "meta_X.json.gz": evil})
    with pytest.raises(OovrecError, match=r"meta_X\.json\.gz, line 1: is neither JSON nor a Python literal"):
        read(tmp_path)


def test_source_is_the_folder_and_the_digest_covers_every_file(tmp_path: Path) -> None:
    first: Interactions = read(folder(tmp_path, P5))
    (tmp_path / "item_text.tsv").write_text("a\tanother a\n")
    second = read(tmp_path)
    assert first.source == second.source == str(tmp_path)
    assert first.sha256 != second.sha256


def test_p5_companions_of_other_users_or_negative_attributes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "user_sequence.txt").write_text("u a b\nv a b\n")
    (tmp_path / "item_attributes.json").write_text('{"a": [-1]}')
    with pytest.raises(OovrecError, match=r"item 'a' has no list of whole numbers"):
        read(tmp_path)
    rows = "user\titem\tunix_time\nu\ta\t1\nu\tb\t2\nu\ta\t3\nv\tb\t4\n"
    (tmp_path / "times.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    with pytest.raises(OovrecError, match=r"line 4: is not the interaction that"):
        read(tmp_path)


def test_recbole_names_may_hold_colons(tmp_path: Path) -> None:
    (tmp_path / "a.inter").write_text("user_id:token\titem_id:token\tseen:at:float\nu\ti\t5\n")
    assert read(tmp_path, Columns(time="seen:at")).frame.rows() == [("u", "i", 5)]


def test_recbole_tokens_are_whole_attributes_and_never_titles(tmp_path: Path) -> None:
    """Columns of one token: a country of two words is one value, and a brand is no title."""
    text = "item_id:token\tbrand_name:token\tcountry:token\n10\tAcme\tUnited States\n20\tAcme\tUnited Kingdom\n"
    log = read(folder(tmp_path, RECBOLE | {"toy.item": text}))
    assert log.titles is None
    assert log.attributes == {"10": (1, 2), "20": (1, 3)}

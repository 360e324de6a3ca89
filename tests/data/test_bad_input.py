"""Every broken input gets one sentence that names the place and the remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from oovrec.data.load import load_dataset
from oovrec.data.readers import read
from oovrec.errors import OovrecError

SEQUENCES = "u1 a b c\nu2 c b\n"
TIMES = "user\titem\tunix_time\nu1\ta\t1\nu1\tb\t2\nu1\tc\t3\nu2\tc\t1\nu2\tb\t2\n"
INTER = "user_id:token\titem_id:token\ttimestamp:float\nu\ta\t1\nu\tb\t2\nu\tc\t3\n"


def p5(sequences: str = SEQUENCES, **companions: str | bytes) -> dict[str, str | bytes]:
    names = {"times": "times.tsv.gz", "texts": "item_text.tsv", "attributes": "item_attributes.json"}
    return {"user_sequence.txt": sequences} | {names[key]: value for key, value in companions.items()}


def amazon(reviews: str | bytes, about: str = "{}") -> dict[str, str | bytes]:
    return {"X_5.json.gz": reviews, "meta_X.json.gz": about}


REVIEW = '{"reviewerID": "u", "asin": "i", "reviewText": "fine", "overall": 5.0, "unixReviewTime": 1391040000}'
CASES: dict[str, tuple[dict[str, str | bytes], str]] = {
    "empty file": ({"log.csv": ""}, r"log\.csv: is empty; give one that has rows\.$"),
    "blank file": ({"log.txt": " \n\n"}, r"log\.txt: is empty"),
    "binary file": ({"log.csv": b"\x7fELF\x00\x01\x02"}, r"log\.csv: is a binary file; give one of text"),
    "file in another encoding": ({"log.txt": b"u1 caf\xe9 b"}, r"log\.txt: is not UTF-8 text; save it as UTF-8\.$"),
    "UTF-16": ({"log.csv": "user,item\na,b\n".encode("utf-16")}, r"log\.csv: is not UTF-8 text; save it as UTF-8"),
    "unknown format": ({"log.xls": "x"}, r"log\.xls: is of no format that oovrec reads; give one of: .*P5.*Parquet"),
    "header only": ({"log.csv": "user,item\n"}, r"log\.csv: has a header but no rows"),
    "one column": (
        {"log.csv": "user item time\na b 1\n"},
        r"line 1: the header has one column, 'user item time'; separate",
    ),
    "wrong columns": (
        {"log.csv": "who,what\na,b\n"},
        r"log\.csv: no column looks like the user among: who, what; name it with --user-column, or in a data file\.$",
    ),
    "no item column": ({"log.csv": "user,what\na,b\n"}, r"no column looks like the item among: user, what"),
    "column twice": ({"log.csv": "user,user,item\na,b,c\n"}, r"line 1: the header has 'user' twice; rename one"),
    "line too long": (
        {"log.csv": "user,item\na,b\na,b,c\n"},
        r"log\.csv, line 3: does not have 2 columns like the header",
    ),
    "open quote": ({"log.csv": 'user,item\na,b\n"a,c\n'}, r"log\.csv, line 3: does not have 2 columns"),
    "stray quote": (
        {"log.csv": 'user,item\na,"b\nb"\na,12" disc\n' + "a,b\n" * 9},
        r"line 4: .* leaves a quote open",
    ),
    "text after a quote": ({"log.csv": 'user,item\na,b\na,"b"c\na,b\n'}, r"log\.csv, line 3: does not have 2 columns"),
    "open quote before much": ({"log.csv": 'user,item\na,b\na,"b\n' + "a,b\n" * 50_000}, r"log\.csv, line 3: does not"),
    "line end in the header": (
        {"log.csv": "user,\ritem\na,b\n"},
        r"log\.csv, line 1: the header is not one line of names",
    ),
    "bad row below quoted line breaks": (
        {"log.csv": 'user,item,time,title\na,b,1,"two\nlines"\n\na,b,2,"x\n\n""y"""\na,c,soon,"a\nb"\n'},
        r"log\.csv, line 8: 'soon' in the column 'time' is not a time",
    ),
    "bad row of a packed file": (
        {"log.tsv.gz": 'user\titem\ttitle\na\tb\t"two\nlines"\na\t\tx\n'},
        r"log\.tsv\.gz, line 4: has no item",
    ),
    "bad row of old Mac lines": ({"log.csv": "user,item\ra,b\ra,\r"}, r"log\.csv, line 3: has no item"),
    "no user": ({"log.csv": "user,item\na,b\n\n,c\n"}, r"log\.csv, line 4: has no user; fill it in"),
    "no item": (
        {"log.csv": "user,item\na,b\na,\n"},
        r"log\.csv, line 3: has no item; fill it in or remove the line\.$",
    ),
    "an item of blanks": ({"log.csv": "user,item\na,b\na,  \n"}, r"log\.csv, line 3: has no item; fill it in"),
    "too few values": (
        {"log.csv": 'title,user,item,time\n"t",a,b,1\n"t,\n""u""",a,b\n'},
        r"log\.csv, line 3: has 3 of 4 columns, so no time; fill in the others or remove the line\.$",
    ),
    "values enough but for the title": (
        {"log.csv": "user,item,time,title\na,b,,\na,c,\n"},
        r"log\.csv, line 2: has no time; fill it in or remove the line, or leave the column out with --time-col",
    ),
    "recbole line with too few values": (
        {"d.inter": 'user_id:token\titem_id:token\ttimestamp:float\nu"\ta\t1\nu\tb\n'},
        r"d\.inter, line 3: has 2 of 3 columns, so no time",
    ),
    "tab in an id": (
        {"log.csv": "user,item\na,b\tb\n"},
        r"line 2: 'b\\tb' in the column 'item' has a tab or line break; remove it from the id\.$",
    ),
    "line break in an id": (
        {"log.csv": "user,item\na\u2028a,b\n"},
        r"line 2: 'a\\u2028a' in the column 'user' has a tab or line",
    ),
    "NaN time": (
        {"log.csv": "user,item,time\na,b,1\na,c,nan\n"},
        r"log\.csv, line 3: 'nan' in the column 'time' is not a time; write all as seconds",
    ),
    "missing time": (
        {"log.csv": "user,item,when,time\na,b,1,\na,c,2,5\n"},
        r"log\.csv, line 2: has no time; fill it in",
    ),
    "date of no known form": (
        {"log.csv": "user,item,date\na,b,07/23/2014\n"},
        r"line 2: '07/23/2014' in .* is not a time; write all as seconds, milliseconds, 20140723, 2014-07-23 or .*UTC",
    ),
    "one date that there is not": (
        {"log.csv": "user,item,date\n" + "a,b,20140701\n" * 3 + "a,c,20140231\na,d,20140702\n"},
        r"log\.csv, line 5: '20140231' in the column 'date' is not a time",
    ),
    "a long value on two lines": (
        {"log.csv": f'user,item,time\na,b,"x\n{"y" * 200}"\n'},
        r"line 2: 'x\\ny{57}…' in the column 'time' is not a time",
    ),
    "rating of letters": (
        {"log.csv": "user,item,rating\na,b,good\n"},
        r"line 2: 'good' in the column 'rating' is not a number; mend it, or leave the column out with --rating",
    ),
    "parquet that is none": ({"log.parquet": "user,item\n"}, r"log\.parquet: is not a whole Parquet file"),
    "empty parquet": ({"log.parquet": b""}, r"log\.parquet: is not a whole Parquet file"),
    "p5 line with one item": (
        p5("u1 a b\nu2 a\n"),
        r"user_sequence\.txt, line 2: has one item; write 'user item item …' with at least two items, or remove",
    ),
    "p5 line with a user": (p5("u1\n"), r"line 1: has no items"),
    "csv named txt": (
        {"log.txt": "user,item\na,b\n"},
        r"log\.txt, line 1: has no items; give the file the ending \.csv if it is a table with a header line, else",
    ),
    "tsv named txt": (
        {"log.txt": "user\titem\ttime\nu\ta\t1\nu\tb\t2\n"},
        r"log\.txt, line 3: user 'u' already .*; give the file the ending \.csv if it is a table .*, else join the two",
    ),
    "user twice": (p5("u1 a b\n\nu1 c d\n"), r"user_sequence\.txt, line 3: user 'u1' already stands on line 1; join"),
    "times going back": (
        p5(times=TIMES.replace("u1\tc\t3", "u1\tc\t1")),
        r"times\.tsv\.gz, line 4: is earlier than the line above it, of the same user; sort",
    ),
    "times with NaN": (
        p5(times=TIMES.replace("b\t2", "b\tnan")),
        r"times\.tsv\.gz, line 3: 'nan' is not a time; write",
    ),
    "times with gaps": (p5(times=TIMES.replace("b\t2", "b\t")), r"times\.tsv\.gz, line 3: has no time; write all as"),
    "times of too few rows": (p5(times=TIMES[:-7]), r"times\.tsv\.gz: has 4 rows for 5 interactions"),
    "times of other items": (
        p5(times=TIMES.replace("u2\tc", "u2\ta")),
        r"times\.tsv\.gz, line 5: is not the interaction that user_sequence\.txt has there",
    ),
    "times with other columns": (p5(times="user\titem\twhen\n"), r"line 1: has the columns user, item, when; name"),
    "truncated gzip": (p5(times=gzip.compress(TIMES.encode())[:-9]), r"times\.tsv\.gz: is not a whole \.gz file"),
    "gzip that is none": (p5(times=TIMES.encode()), r"times\.tsv\.gz: is not a whole \.gz file"),
    "text without a tab": (p5(texts="a an a\n"), r"item_text\.tsv, line 1: has no tab"),
    "text twice": (p5(texts="a\tx\nb\ty\na\tz\n"), r"item_text\.tsv, line 3: item 'a' stands there twice"),
    "broken JSON": (p5(attributes='{"a": [1,\n'), r"item_attributes\.json, line \d: is not valid JSON \(.*\); restore"),
    "JSON of another shape": (p5(attributes="[1]"), r"item_attributes\.json: is not an object of lists"),
    "attributes that are no numbers": (p5(attributes='{"a": ["x"]}'), r"item 'a' has no list of whole numbers"),
    "attributes beyond 64 bits": (p5(attributes=f'{{"a": [{2**63}]}}'), r"item 'a' has no list of whole numbers"),
    "recbole without types": (
        {"d.inter": "user_id\titem_id\nu\ti\n"},
        r"d\.inter, line 1: column 'user_id' has no type",
    ),
    "recbole with commas": (
        {"d.inter": "user_id:token,item_id:token\nu,i\n"},
        r"d\.inter, line 1: the header has one column, .*; separate columns by tab, and name them in the first line\.$",
    ),
    "recbole with a wrong type": (
        {"d.inter": "user_id:tokn\titem_id:token\nu\ti\n"},
        r"line 1: unknown column type 'tokn'; did you mean 'token'",
    ),
    "recbole time": ({"d.inter": INTER.replace("\t2\n", "\t\n")}, r"d\.inter, line 3: has no time; fill"),
    "recbole item twice": (
        {"d.inter": INTER, "d.item": "item_id:token\tname:token_seq\na\tx\na\ty\n"},
        r"d\.item: item 'a' stands there twice",
    ),
    "amazon review cut short": (
        amazon('{"reviewerID": "u"'),
        r"X_5\.json\.gz, line 1: is neither JSON nor a Python literal; fetch the file again",
    ),
    "amazon reviews truncated": (
        amazon(gzip.compress(b'{"reviewerID": "u"}\n')[:-9]),
        r"X_5\.json\.gz: is not a whole \.gz file",
    ),
    "amazon review without an item": (
        amazon('{"reviewerID": "u", "unixReviewTime": 1}'),
        r"X_5\.json\.gz, review 1: has no item",
    ),
    "amazon time that is none": (
        amazon(REVIEW.replace("1391040000", '"x"')),
        r"X_5\.json\.gz, review 1: 'x' in the column 'time' is not a time; write all as .*\(UTC, .* like \+02:00\)\.$",
    ),
    "amazon rating that is none": (
        amazon(REVIEW.replace("5.0", '"x"')),
        r"X_5\.json\.gz, review 1: 'x' in the column 'rating' is not a number; mend it\.$",
    ),
    "amazon text that is none": (
        amazon(REVIEW.replace('"fine"', '["fine"]')),
        r"X_5\.json\.gz, line 1: 'reviewText' holds neither a text nor a number; write one there or remove the line",
    ),
    "amazon text with half a character": (
        amazon(REVIEW.replace("fine", "\\ud83d")),
        r"X_5\.json\.gz, line 1: '\\ud83d' in the column 'reviewText' has half a character",
    ),
    "amazon title with half a character": (
        amazon(REVIEW, '{"asin": "i", "title": "\\ud83d"}'),
        r"meta_X\.json\.gz, line 1: '\\ud83d' in the column 'title' has half a character",
    ),
    "amazon lists in lists": (
        amazon(f"{REVIEW}\n{'[' * 100_000}"),
        r"X_5\.json\.gz, line 2: is neither JSON nor a Python literal",
    ),
    "amazon literal with a list for a key": (
        amazon("{[]: 1}"),
        r"X_5\.json\.gz, line 1: is neither JSON nor a Python literal",
    ),
    "attributes in lists in lists": (
        p5(SEQUENCES) | {"item_attributes.json": "[" * 100_000},
        r"item_attributes\.json: cannot be read as JSON \(",
    ),
    "an attribute of very many digits": (
        p5(SEQUENCES) | {"item_attributes.json": f'{{"a": [{"9" * 5000}]}}'},
        r"item_attributes\.json: cannot be read as JSON \(Exceeds the limit",
    ),
    "json lists in lists": (
        {"log.jsonl": f'{{"user": "u", "item": "i"}}\n{{"user": {"[" * 100_000}'},
        r"log\.jsonl, line 2: is no JSON object",
    ),
    "movielens film": (
        {"ratings.dat": "1::2::3::4\n", "movies.dat": "2::A film\n"},
        r"movies\.dat, line 1: is not film::title::genres",
    ),
    "movielens films of two columns": (
        {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,3,4\n", "movies.csv": "movieId,title\n2,A film\n"},
        r"movies\.csv, line 1: has the columns movieId, title and not movieId, title, genres",
    ),
    "movielens ratings": (
        {"ratings.dat": "1,2,3,4\n", "movies.dat": "2::A film::Drama\n"},
        r"ratings\.dat, line 1: is not user::film::rating::time; fetch it again",
    ),
    "movielens rating with more between its colons": (
        {"ratings.dat": "1::2::3::4\n\n1:x:2::3::4\n", "movies.dat": "2::A film::Drama\n"},
        r"ratings\.dat, line 3: is not user::film::rating::time; fetch it again",
    ),
    "movielens rating without a time": (  # no option leaves a fixed column out
        {"ratings.dat": "1::2::3::4\n1::2::3\n", "movies.dat": "2::A film::Drama\n"},
        r"ratings\.dat, line 2: has no time; fill it in or remove the line\.$",
    ),
    "movielens ratings without users": (
        {"ratings.csv": "who,movieId,rating,timestamp\n1,2,3,4\n", "movies.csv": "movieId,title,genres\n2,A,\n"},
        r"ratings\.csv: no column looks like the user among: who, movieId, rating, timestamp; fetch the file again\.$",
    ),
    "movielens films in other columns": (
        {"ratings.csv": "userId,movieId,rating,timestamp\n1,2,3,4\n", "movies.csv": "title,movieId,genres\nA,2,\n"},
        r"movies\.csv, line 1: has the columns title, movieId, genres and not movieId, title, genres",
    ),
    "histories too short": (p5("u1 a b\nu2 a b\n"), r"no user has three items, and one each is needed to train"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input(tmp_path: Path, case: str) -> None:
    files, message = CASES[case]
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        packed = name.endswith(".gz") and isinstance(content, str)
        (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(OovrecError, match=message) as caught:
        load_dataset(tmp_path / name if len(files) == 1 else tmp_path, k_core=1)
    assert str(caught.value).count("\n") == 0
    assert caught.value.remedy


def test_too_small_for_its_core(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(SEQUENCES)
    with pytest.raises(OovrecError, match=r"none of 5 interactions are left .* must have 5; lower --k-core"):
        load_dataset(tmp_path / "log.txt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("ml-100", r"^unknown dataset 'ml-100'; did you mean 'ml-100k'\.$"),
        ("amazon-2014-beuty", r"did you mean 'amazon-2014-beauty'"),
        ("qqq", r"^unknown dataset 'qqq'; choose one of: .*ml-100k"),
        ("no/such", r"^no/such: no such file or folder; check the path\.$"),
        ("nosuch.csv", r"^nosuch\.csv: no such file or folder"),
        (Path("nosuch"), r"^nosuch: no such file or folder"),
        ("~no-such-user/log.csv", r"^~no-such-user/log\.csv: no such file or folder; check the path\.$"),
        ("a" * 300 + ".csv", r"^a{300}\.csv: no such file or folder"),
    ],
)
def test_what_is_not_there(data: str | Path, message: str) -> None:
    with pytest.raises(OovrecError, match=message):
        load_dataset(data)


@pytest.mark.parametrize("name", ["nolog.csv", "nolog", "~no-such-user/nolog.csv"])
def test_a_log_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(OovrecError, match=r"nolog(\.csv)?: no such file or folder; check the path\.$"):
        read(tmp_path / name)
    with pytest.raises(OovrecError, match=r"no such file or folder"):
        read(Path(name))


@pytest.mark.parametrize("k_core", [0, -3])
def test_a_core_below_one(tmp_path: Path, k_core: int) -> None:
    (tmp_path / "log.txt").write_text(SEQUENCES)
    with pytest.raises(
        OovrecError, match=rf"^k_core: {k_core} is below 1; give 1 to keep all interactions, or more\.$"
    ):
        load_dataset(tmp_path / "log.txt", k_core=k_core)
    with pytest.raises(OovrecError, match=r"^k_core: '5' is no whole number; give 1 to keep"):
        load_dataset(tmp_path / "log.txt", k_core="5")


def test_a_table_in_memory_is_no_place_of_data() -> None:
    with pytest.raises(OovrecError, match=r"^data: a DataFrame says not where data lies; give a name or a path"):
        load_dataset(pl.DataFrame({"user_id": ["a"], "item_id": ["b"]}))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(OovrecError, match="is of no format that oovrec reads"):
        load_dataset(tmp_path)

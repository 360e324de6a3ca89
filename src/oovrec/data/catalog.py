"""Public datasets by name: where they officially lie, and on what terms."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from oovrec.data.cache import Entry, Source, fetched
from oovrec.errors import OovrecError, unknown

AMAZON_2014 = """Amazon_Instant_Video Apps_for_Android Automotive Baby Beauty Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Grocery_and_Gourmet_Food
    Health_and_Personal_Care Home_and_Kitchen Kindle_Store Movies_and_TV Musical_Instruments Office_Products
    Patio_Lawn_and_Garden Pet_Supplies Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_2018 = """AMAZON_FASHION All_Beauty Appliances Arts_Crafts_and_Sewing Automotive Books CDs_and_Vinyl
    Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry Digital_Music Electronics Gift_Cards
    Grocery_and_Gourmet_Food Home_and_Kitchen Industrial_and_Scientific Kindle_Store Luxury_Beauty
    Magazine_Subscriptions Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies
    Prime_Pantry Software Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_2023 = """All_Beauty Amazon_Fashion Appliances Arts_Crafts_and_Sewing Automotive Baby_Products
    Beauty_and_Personal_Care Books CDs_and_Vinyl Cell_Phones_and_Accessories Clothing_Shoes_and_Jewelry
    Digital_Music Electronics Gift_Cards Grocery_and_Gourmet_Food Handmade_Products Health_and_Household
    Health_and_Personal_Care Home_and_Kitchen Industrial_and_Scientific Kindle_Store Magazine_Subscriptions
    Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies Software
    Sports_and_Outdoors Subscription_Boxes Tools_and_Home_Improvement Toys_and_Games Video_Games"""
AMAZON_FILES = {  # year: categories, reviews, metadata
    2014: (
        AMAZON_2014,
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_{}_5.json.gz",
        "http://snap.stanford.edu/data/amazon/productGraph/categoryFiles/meta_{}.json.gz",
    ),
    2018: (
        AMAZON_2018,
        "https://jmcauley.ucsd.edu/data/amazon_v2/categoryFilesSmall/{}_5.json.gz",
        "https://jmcauley.ucsd.edu/data/amazon_v2/metaFiles2/meta_{}.json.gz",
    ),
    2023: (
        AMAZON_2023,
        "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/benchmark/5core/rating_only/{}.csv",
        "https://huggingface.co/datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/raw/meta_categories/meta_{}.jsonl",
    ),
}
AMAZON_TERMS = "J. McAuley's Amazon product data, for research use"
GROUPLENS_TERMS = "GroupLens: research use, no redistribution without permission; cite Harper and Konstan (2015)"


def _movielens(name: str, digest: str, ratings: str, movies: str) -> Entry:
    url = f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    return Entry((Source(url, digest, (f"{name}/{ratings}", f"{name}/{movies}")),), GROUPLENS_TERMS)


def _amazon() -> dict[str, Entry]:
    return {
        f"amazon-{year}-{category.lower().replace('_', '-')}": Entry(
            (Source(reviews.format(category)), Source(metadata.format(category))), AMAZON_TERMS
        )
        for year, (categories, reviews, metadata) in AMAZON_FILES.items()
        for category in categories.split()
    }


_RECBOLE = Source(
    "pypi:recbole==1.2.1",
    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
    ("recbole/dataset_example/ml-100k/ml-100k.inter", "recbole/dataset_example/ml-100k/ml-100k.item"),
)
CATALOG: dict[str, Entry] = {
    "ml-100k": Entry((_RECBOLE,), GROUPLENS_TERMS),
    "ml-1m": _movielens(
        "ml-1m", "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20", "ratings.dat", "movies.dat"
    ),
    "ml-20m": _movielens(
        "ml-20m", "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3", "ratings.csv", "movies.csv"
    ),
    **_amazon(),
}
EXAMPLES = ("ml-100k", "ml-1m", "ml-20m", "amazon-2014-beauty", "amazon-2018-all-beauty", "amazon-2023-all-beauty")


def unknown_dataset(name: str) -> OovrecError:
    """An error for a name that the catalogue lacks: its nearest neighbour, or a few names as examples."""
    return unknown("dataset", name, CATALOG if get_close_matches(name, CATALOG, n=1) else EXAMPLES)


def get(name: str) -> Path:
    """The folder of a named dataset, fetched into the cache where it is not there yet.

    Raises:
        OovrecError: no such name; or as :func:`oovrec.data.cache.fetched`.
    """
    if name not in CATALOG:
        raise unknown_dataset(name)
    return fetched("datasets", name, CATALOG[name])

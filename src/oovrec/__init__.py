"""oovrec: teach language models to recommend, by giving users and items words of their own."""

__version__ = "0.1.0"

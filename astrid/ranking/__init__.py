"""Candidates are ranked anew by what is measured of them."""

from astrid.ranking.rankers import NoRanking, Ranker

__all__ = ["NoRanking", "Ranker"]

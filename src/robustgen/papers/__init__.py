"""The papers: for each its tables, figures, claims and reference numbers. One package per paper, exposing `PAPER`."""

from robustgen.papers.base import Artifact, Paper, paper, papers

__all__ = ["Artifact", "Paper", "paper", "papers"]

"""The data sets of this paper."""

from __future__ import annotations

SHOWN = "CIFAR-10"  # the paper's data set, of everything but Table 3
ELSEWHERE = ("SVHN", "CIFAR-100")  # those of Table 3

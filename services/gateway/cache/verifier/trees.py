"""Boosted decision trees that numpy evaluates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Trees:
    """Boosted trees as tables, [trees, nodes]; the children of a leaf are the leaf itself.

    Attributes:
        feature: the feature that a node compares.
        threshold: values up to this one go left.
        left: the left child of a node.
        right: the right child of a node.
        value: what a leaf adds to the score.
    """

    feature: NDArray[np.int16]
    threshold: Array
    left: NDArray[np.int16]
    right: NDArray[np.int16]
    value: Array

    def score(self, row: Array) -> float:
        """Return the sum of the leaves that a row, [features], reaches."""
        trees = np.arange(len(self.feature))
        node = np.zeros(len(trees), np.int16)
        while True:
            goes_left = row[self.feature[trees, node]] <= self.threshold[trees, node]
            child = np.where(goes_left, self.left[trees, node], self.right[trees, node])
            if (child == node).all():
                return float(self.value[trees, node].sum())
            node = child

import numpy as np

from services.gateway.cache.verifier.trees import Trees

# The first tree splits on feature 1 at 0.5, the second is a single leaf.
TREES = Trees(
    feature=np.array([[1, 0, 0], [0, 0, 0]], np.int16),
    threshold=np.array([[0.5, 0, 0], [0, 0, 0]], np.float32),
    left=np.array([[1, 1, 2], [0, 1, 2]], np.int16),
    right=np.array([[2, 1, 2], [0, 1, 2]], np.int16),
    value=np.array([[0, 10, 20], [1, 0, 0]], np.float32),
)


def test_the_score_sums_one_leaf_of_every_tree() -> None:
    assert TREES.score(np.array([9.0, 0.5], np.float32)) == 11  # the threshold goes left
    assert TREES.score(np.array([0.0, 0.6], np.float32)) == 21

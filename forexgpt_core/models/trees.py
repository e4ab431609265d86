"""A forest as plain arrays: walked without the library that grew it, stored without pickles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from forexgpt_core.domain.forecasts import Floats
from forexgpt_core.models.files import Arrays

_ROWS_AT_ONCE = 512


class GrownTree(Protocol):
    """The arrays of a fitted scikit-learn tree (`DecisionTreeRegressor.tree_`)."""

    feature: NDArray[np.int64]
    threshold: Floats
    children_left: NDArray[np.int64]
    children_right: NDArray[np.int64]
    value: Floats
    max_depth: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """Regression trees laid end to end.

    Attributes:
        feature: (nodes,) column asked at each node; at a leaf any.
        threshold: (nodes,) go left where the float32 input is at most this.
        children: (nodes, 2) left and right; a leaf names itself twice.
        value: (nodes, outputs).
        roots: (trees,).
        depth: longest way from a root to a leaf.
    """

    feature: NDArray[np.int32]
    threshold: Floats
    children: NDArray[np.int32]
    value: Floats
    roots: NDArray[np.int32]
    depth: int

    @classmethod
    def of(cls, grown: Sequence[GrownTree]) -> Self:
        """Return the trees of a fitted forest."""
        sizes = [tree.feature.size for tree in grown]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        children = [_children(tree) + root for tree, root in zip(grown, roots)]
        return cls(
            feature=np.maximum(np.concatenate([tree.feature for tree in grown]), 0).astype(np.int32),
            threshold=np.concatenate([tree.threshold for tree in grown]).astype(np.float64),
            children=np.concatenate(children).astype(np.int32),
            value=np.concatenate([tree.value[:, :, 0] for tree in grown]).astype(np.float64),
            roots=roots.astype(np.int32),
            depth=max(int(tree.max_depth) for tree in grown),
        )

    def mean(self, x: Floats) -> Floats:
        """Return the average of the trees' leaves; (n, outputs)."""
        inputs = x.astype(np.float32)  # what the library compares
        parts = [self._mean(inputs[first : first + _ROWS_AT_ONCE]) for first in range(0, len(x), _ROWS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, self.value.shape[1]))

    def _mean(self, x: NDArray[np.float32]) -> Floats:
        node = np.broadcast_to(self.roots, (len(x), self.roots.size))
        row = np.arange(len(x))[:, None]
        for _ in range(self.depth):
            right = x[row, self.feature[node]] > self.threshold[node]
            node = self.children[node, right.astype(np.int8)]
        return np.asarray(self.value[node].mean(axis=1))

    def to_arrays(self, prefix: str) -> Arrays:
        """Return the arrays to store, named with a prefix."""
        return {
            f"{prefix}_feature": self.feature,
            f"{prefix}_threshold": self.threshold,
            f"{prefix}_children": self.children,
            f"{prefix}_value": self.value,
            f"{prefix}_roots": self.roots,
            f"{prefix}_depth": np.array(self.depth),
        }

    @classmethod
    def from_arrays(cls, arrays: Arrays, prefix: str, *, inputs: int) -> Self:
        """Return the trees that `to_arrays` gave.

        Raises:
            ValueError: a node points out of the arrays.
        """
        feature, children = arrays[f"{prefix}_feature"], arrays[f"{prefix}_children"]
        roots, nodes = arrays[f"{prefix}_roots"], feature.size
        inside = children.shape == (nodes, 2) and all(
            part.size and part.min() >= 0 and part.max() < limit
            for part, limit in ((feature, inputs), (children, nodes), (roots, nodes))
        )
        if not inside:
            raise ValueError(f"the {prefix} trees point outside their {nodes} nodes or {inputs} inputs")
        return cls(
            feature=feature.astype(np.int32),
            threshold=arrays[f"{prefix}_threshold"].astype(np.float64),
            children=children.astype(np.int32),
            value=arrays[f"{prefix}_value"].astype(np.float64),
            roots=roots.astype(np.int32),
            depth=int(arrays[f"{prefix}_depth"]),
        )


def _children(tree: GrownTree) -> NDArray[np.int64]:
    both = np.stack([tree.children_left, tree.children_right], axis=1)
    own = np.arange(tree.feature.size)[:, None]
    return np.where(both < 0, own, both)

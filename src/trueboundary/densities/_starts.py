"""Starting points of expectation maximisation: a principal component analysis per cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from sklearn.cluster import KMeans
from sklearn.metrics import pairwise_distances_argmin

from trueboundary.densities.em import Array, MixtureParameters

# Starting points are found from at most this many numbers, in rows drawn at random: 512 MiB in
# float64, or 85,000 images of 784 pixels.
_MAX_NUMBERS = 2**26
# Noise variances start at no less than this share of the average variance of the data, so that a
# cluster of two or three points does not start as a spike that nothing can leave.
_SMALLEST_SHARE = 1e-2


@dataclass(frozen=True)
class Survey:
    """What one pass over the data tells before the fit.

    Attributes
    ----------
    n_samples : int
        Number of rows.
    mean, variance : ndarray
        Mean and variance of each coordinate, float64, shape ``(d,)``.
    rows : ndarray
        All rows, or a random choice of them, in their order, shape ``(m, d)``.
    """

    n_samples: int
    mean: Array
    variance: Array
    rows: Array


def survey(batches: Iterable[Array], rng: np.random.RandomState) -> Survey:
    """Look over data once; the result does not depend on how they are cut into batches.

    Parameters
    ----------
    batches : iterable of ndarray
        Rows, float32 or float64, shapes ``(n_i, d)``.
    rng : RandomState
        Draws which rows to keep, where not all are kept.

    Returns
    -------
    Survey
        Moments and rows.
    """
    n_samples, kept, keys = 0, [], np.empty(0)
    for batch in batches:
        if n_samples == 0:
            # Sums are taken from the first row, which lies among the data: nothing cancels.
            origin = batch[0].astype(np.float64)
            total, squares = np.zeros_like(origin), np.zeros_like(origin)
            limit = max(1, _MAX_NUMBERS // batch.shape[1])
        n_samples += len(batch)
        for part in _parts(batch):
            difference = part.astype(np.float64) - origin
            total += difference.sum(axis=0)
            squares += (difference**2).sum(axis=0)
        # Each row gets a random key, and the rows of the smallest keys stay.
        keys = np.concatenate([keys, rng.random_sample(len(batch))])
        kept.append(batch)
        if len(keys) > limit:
            chosen = np.sort(np.argpartition(keys, limit)[:limit])
            keys = keys[chosen]
            kept = [_take(kept, chosen)]
    if n_samples == 0:
        raise ValueError("there are no rows to fit: the batches were empty.")
    shift = total / n_samples
    variance = np.maximum(squares / n_samples - shift**2, 0)
    rows = kept[0] if len(kept) == 1 else np.concatenate(kept)
    return Survey(n_samples, origin + shift, variance, rows)


def _take(parts: list[Array], chosen: Array) -> Array:
    """Return the chosen rows of several arrays without joining the arrays first."""
    starts = np.cumsum([0, *map(len, parts)])
    taken = []
    for part, start in zip(parts, starts, strict=False):
        local = chosen[(chosen >= start) & (chosen < start + len(part))] - start
        taken.append(part[local])
    return np.concatenate(taken)


def _parts(batch: Array) -> Iterator[Array]:
    rows = max(1, 2**20 // batch.shape[1])
    return (batch[start : start + rows] for start in range(0, len(batch), rows))


def _kmeans(rows: Array, n_components: int, rng: np.random.RandomState) -> Array:
    seed = rng.randint(np.iinfo(np.int32).max)
    labels: Array = KMeans(n_components, n_init=1, random_state=seed).fit(rows).labels_
    return labels


def _random(rows: Array, n_components: int, rng: np.random.RandomState) -> Array:
    centres = rows[rng.choice(len(rows), n_components, replace=False)]
    labels: Array = pairwise_distances_argmin(rows, centres)
    return labels


LABELLERS: dict[str, Callable[[Array, int, np.random.RandomState], Array]] = {
    "kmeans": _kmeans,
    "random": _random,
}


def start(
    rows: Array,
    *,
    init_params: str,
    n_components: int,
    n_factors: int,
    noise: str | float,
    floor: float,
    rng: np.random.RandomState,
) -> MixtureParameters:
    """Return starting parameters: clusters, and their principal components.

    Parameters
    ----------
    rows : ndarray
        Centred rows, shape ``(m, d)``, at least as many as components.
    init_params : str
        How to cluster, a key of `LABELLERS`.
    n_components, n_factors : int
        Sizes of the mixture.
    noise : str or float
        ``"diagonal"``, ``"isotropic"`` or a fixed variance.
    floor : float
        Smallest noise variance.
    rng : RandomState
        Source of all random numbers.

    Returns
    -------
    MixtureParameters
        The start of the fit.
    """
    labels = LABELLERS[init_params](rows, n_components, rng)
    floor = max(floor, _SMALLEST_SHARE * float(rows.var(axis=0, dtype=np.float64).mean()))
    clusters = [_cluster(rows, labels == k, rng) for k in range(n_components)]
    analysed = [_analyse(cluster, n_factors, noise, floor, rng) for cluster in clusters]
    means, loadings, noises = (np.stack(part) for part in zip(*analysed, strict=True))
    counts = np.array([len(cluster) for cluster in clusters], dtype=np.float64)
    return MixtureParameters(counts / counts.sum(), means, loadings, noises)


def _cluster(rows: Array, members: Array, rng: np.random.RandomState) -> Array:
    # k-means may leave a cluster without points where many rows are equal; one row is lent to it.
    if not members.any():
        members = np.zeros_like(members)
        members[rng.randint(len(rows))] = True
    return rows[members].astype(np.float64)


def _analyse(
    cluster: Array, n_factors: int, noise: str | float, floor: float, rng: np.random.RandomState
) -> tuple[Array, Array, Array]:
    """Return mean, loadings and noise of one cluster by probabilistic principal components."""
    count, dim = cluster.shape
    mean = cluster.mean(axis=0)
    centred = cluster - mean
    n_found = min(n_factors, count - 1, dim - 1)
    variances, directions = _principal_components(centred, n_found)
    left = max(0.0, float((centred**2).sum() / count - variances.sum())) / (dim - n_found)
    level = noise if isinstance(noise, float) else max(left, floor)
    # A factor that starts at zero stays at zero, so that all are given a little: along the
    # principal directions, and along random ones where the cluster has too few points.
    smallest = 1e-2 * level
    found = directions * np.sqrt(np.maximum(variances - level, smallest))
    missing = rng.standard_normal((dim, n_factors - n_found)) * np.sqrt(smallest)
    loadings = np.hstack([found, missing])
    if noise == "diagonal":
        own = (centred**2).mean(axis=0) - (found**2).sum(axis=1)
        return mean, loadings, np.maximum(own, floor)
    return mean, loadings, np.array([level])


def _principal_components(centred: Array, n_found: int) -> tuple[Array, Array]:
    """Return the largest variances ``(q,)`` and their directions ``(d, q)``."""
    count, dim = centred.shape
    if n_found == 0:
        return np.zeros(0), np.zeros((dim, 0))
    # The smaller of the two Gram matrices has the same spectrum.
    wide = count < dim
    gram = (centred @ centred.T if wide else centred.T @ centred) / count
    size = len(gram)
    values, vectors = scipy.linalg.eigh(gram, subset_by_index=[size - n_found, size - 1])
    if wide:
        vectors = centred.T @ vectors
        lengths = np.linalg.norm(vectors, axis=0)
        vectors = vectors / np.where(lengths > 0, lengths, 1.0)
    return np.maximum(values, 0.0), vectors

"""Generators for numbered blocks of random draws.

Every stream of points is cut into blocks of a fixed size, and each block has a generator of its
own, seeded by (purpose, seed, block index). Whoever needs block 17 can therefore draw it without
drawing the 16 before it, so that neither the batch size nor the number of workers changes a
single point.
"""

from __future__ import annotations

import hashlib

import torch

from trueboundary._checks import check_integer
from trueboundary.devices import check_device


def block_generator(
    seed: int, index: int, *, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the generator of one block.

    Parameters
    ----------
    seed : int
        Seed of the whole stream, at least 0.
    index : int
        Number of the block, at least 0.
    purpose : str
        What the draws are for. Streams with different purposes are independent even when they
        share a seed, so that a test set never repeats the training points.
    device : torch.device or str
        Where the generator draws; CPU and CUDA generators give different numbers.

    Examples
    --------
    >>> from trueboundary.problems.seeding import block_generator
    >>> first = block_generator(0, 3, purpose="example")
    >>> again = block_generator(0, 3, purpose="example")
    >>> first.initial_seed() == again.initial_seed()
    True
    """
    seed = check_integer("seed", seed, minimum=0)
    index = check_integer("index", index, minimum=0)
    digest = hashlib.blake2b(f"{purpose}/{seed}".encode(), digest_size=8).digest()
    # torch's CPU generator keeps only the low 32 bits of its seed. Hashing the index as well
    # would make two blocks of a long stream collide sooner or later; consecutive seeds cannot.
    block_seed = (int.from_bytes(digest, "little") + index) % 2**63
    return torch.Generator(check_device(device)).manual_seed(block_seed)

"""Images on disk to verified arrays; nothing here imports torch.

Whatever reads files raises a `FileNotFoundError` where they are not there and a `ValueError` where
they are damaged, larger than they may be, or of another kind. Either says in one sentence what to
do.
"""

from trueboundary.data.celeba import CelebA, fingerprint_celeba, load_celeba, stream_celeba
from trueboundary.data.cifar import load_cifar10
from trueboundary.data.folders import load_image_folder
from trueboundary.data.idx import decode_idx, encode_idx, load_idx_folder, read_idx
from trueboundary.data.image_data import ImageData
from trueboundary.data.locations import DataLocation, cache_folder
from trueboundary.data.mnist import load_mnist
from trueboundary.data.sources import (
    ImageSource,
    find_data,
    image_source,
    image_sources,
    parse_classes,
    parse_pair,
    register_image_source,
)

__all__ = [
    "CelebA",
    "DataLocation",
    "ImageData",
    "ImageSource",
    "cache_folder",
    "decode_idx",
    "encode_idx",
    "find_data",
    "fingerprint_celeba",
    "image_source",
    "image_sources",
    "load_celeba",
    "load_cifar10",
    "load_idx_folder",
    "load_image_folder",
    "load_mnist",
    "parse_classes",
    "parse_pair",
    "read_idx",
    "register_image_source",
    "stream_celeba",
]

"""Images on disk to verified arrays; nothing here imports torch."""

from trueboundary.data.celeba import CelebA, fingerprint_celeba, load_celeba, stream_celeba
from trueboundary.data.cifar import load_cifar10
from trueboundary.data.folders import load_image_folder
from trueboundary.data.idx import decode_idx, encode_idx, load_idx_folder, read_idx
from trueboundary.data.image_data import ImageData
from trueboundary.data.locations import DataLocation, cache_folder, find_data
from trueboundary.data.mnist import load_mnist

__all__ = [
    "CelebA",
    "DataLocation",
    "ImageData",
    "cache_folder",
    "decode_idx",
    "encode_idx",
    "find_data",
    "fingerprint_celeba",
    "load_celeba",
    "load_cifar10",
    "load_idx_folder",
    "load_image_folder",
    "load_mnist",
    "read_idx",
    "stream_celeba",
]

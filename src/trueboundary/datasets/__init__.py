"""Image data sets on disk whose optimal classifier is known, with a card that says how good it is.

A data set is a folder: training and test points as safetensors, the densities they were drawn from,
a sheet of samples, and a card with the accuracy and the proven robustness of the optimal
classifier. The folder is complete or not there, and every file is known by its checksum.
"""

from trueboundary.datasets.cards import (
    against,
    card_text,
    few_images,
    measure_card,
    most_components,
)
from trueboundary.datasets.dataset_folders import Dataset, check_room, load_dataset, make_dataset
from trueboundary.datasets.exports import ImageChange, export_arrays, export_images

__all__ = [
    "Dataset",
    "ImageChange",
    "against",
    "card_text",
    "check_room",
    "export_arrays",
    "export_images",
    "few_images",
    "load_dataset",
    "make_dataset",
    "measure_card",
    "most_components",
]

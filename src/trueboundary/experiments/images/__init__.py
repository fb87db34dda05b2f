"""Classifiers of images trained where the density is known, and what is measured on them."""

"""Classifiers of images trained where the density is known, and what is measured on them.

Modules that import torch are imported where they are used, so that listing experiments is quick.
"""

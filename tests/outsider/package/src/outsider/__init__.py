"""An attack, a problem, a classifier with its proof, and a kind of images, all of them brought."""

from outsider.laplace import Laplace, TwoScales
from outsider.octahedron import Octahedron, OctahedronCertificate
from outsider.rays import RandomRays
from outsider.stripes import Stripes

__all__ = [
    "Laplace",
    "Octahedron",
    "OctahedronCertificate",
    "RandomRays",
    "Stripes",
    "TwoScales",
]

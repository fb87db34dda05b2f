"""How long each kind of work takes on one core: the rates that every run's `cost` is made of.

A cost is a sum of amounts of work, which follow from a run's sizes, times these rates: it is linear
in each of them. So one table serves all runs, and

    python benchmarks/costs.py RESULTS --fit

measures it again from the processor times of the runs stored in the folder RESULTS: it prints the
values to write here. Those below are of the machine that the documentation's figures come from; on
another one the progress display finds out by how much all of them are wrong.
"""

from dataclasses import dataclass


@dataclass
class Rates:
    """Seconds on one core per unit of work."""

    #: A run that has hardly anything to do: reading what it needs and storing what it found.
    run: float = 0.089

    # Networks of dense layers. To the inputs a pass back counts as one forward, in training as two.
    #: Start of a layer's kernels in one call, whatever the number of points.
    layer_call: float = 4.7e-05
    #: Read of a weight in one call.
    weight_read: float = 5.7e-10
    #: Multiplication and addition, for each weight and point.
    product: float = 1.4e-11
    #: Normalisation and nonlinearity, for each unit of a ReLU network and point.
    unit: float = 1.7e-10
    #: Step of an optimiser and its loss, apart from what follows.
    training_step: float = 1e-05
    #: Update of a weight by Adam.
    update: float = 2.3e-10
    #: Draw of a normal random number.
    random_number: float = 5.7e-09
    #: Step of an attack on some points, apart from its passes, and for each number of a point.
    attack_call: float = 0.00067
    attack_step: float = 3.3e-08
    #: Linear bounds of a network's outputs, per product of two weights.
    bound: float = 3.2e-11
    #: A cap of a covered sphere, and its bounds per product of two weights.
    cap: float = 9.3e-06
    cap_bound: float = 9.3e-09

    # Quadratic networks and forms.
    #: Eigenvalues of a matrix, per cubed dimension.
    eigenvalues: float = 1e-10
    #: Exact tail probability of a form with its approximations, and of each weight in it.
    tail: float = 0.0012
    tail_weight: float = 8e-06
    #: Gradient of an exact tail probability.
    tail_gradient: float = 0.0046
    #: Nearest point of an ellipsoid, per axis.
    projection: float = 1.3e-07

    # Images: mixtures of factor analyzers, convolutional networks and kernel machines.
    #: Reading of a pixel.
    reading: float = 1.9e-08
    #: Iteration of EM, per image, component, pixel and factor.
    em: float = 1.3e-10
    #: Density, and once more its gradient, per point, component, pixel and factor.
    density: float = 2.2e-10
    #: Bracket of a mixture's nearest error, per point, component, pixel and factor.
    bracket: float = 9.6e-09
    #: Certificate for mixtures on subspaces, per point, component, pixel and factor.
    subspaces: float = 2.7e-08
    #: Start of a convolution's kernels in one call, whatever the number of images.
    convolution_call: float = 0.00011
    #: Multiplication and addition of a convolution.
    convolution: float = 6.3e-12
    #: Nonlinearity and traffic, for each value between two convolutions.
    feature: float = 3.7e-09
    #: Kernel, and once more its gradient, per point, support vector and pixel.
    kernel: float = 6.3e-11
    #: Squared distance, per pair of points and pixel, and fit to a kernel, per pair of points.
    squared_distance: float = 9.3e-11
    kernel_fit: float = 5e-09
    #: Fit of a linear machine, per training point and pixel.
    linear_fit: float = 5e-08

    # Small problems in the plane, where the start of each operation is what takes time.
    #: Step of training a small network.
    small_step: float = 0.00014
    #: Attack on a point, or bracket of its nearest error.
    small_search: float = 0.0014
    #: Exact distance of a point to a conic.
    small_distance: float = 1e-05
    #: Fit of a small mixture, per point and component.
    small_fit: float = 1.2e-05


RATES = Rates()

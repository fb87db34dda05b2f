"""The numbers that the paper prints of images, by data set (the journal version, if not said)."""

from __future__ import annotations

from collections.abc import Mapping

Numbers = Mapping[str, tuple[float, ...]]

#: What a network that is tested on real images was trained on.
TRAINED_ON = ("real", "generated")
#: Mean attacks on the symmetric problems in Figure 7 (anonymous version: 6), as `CLASSIFIERS`.
MEANS: Numbers = {
    "mnist/0-6": (2.98, 1.84, 1.09, 2.69),
    "mnist/2-7": (2.91, 1.59, 0.65, 2.51),
    "mnist/4-5": (3.16, 2.22, 1.02, 2.83),
    "celeba/Bangs": (3.38, 0.75, 0.13, 2.96),
    "celeba/Black_Hair": (3.02, 0.82, 0.09, 2.55),
    "celeba/Brown_Hair": (2.76, 0.65, 0.05, 1.96),
    "celeba/Heavy_Makeup": (3.07, 0.83, 0.39, 2.07),
    "celeba/High_Cheekbones": (2.99, 0.96, 0.26, 2.06),
    "celeba/Male": (3.31, 0.82, 0.55, 2.46),
    "celeba/Mouth_Slightly_Open": (2.83, 0.62, 0.27, 1.84),
    "celeba/No_Beard": (3.19, 0.68, 0.31, 2.45),
    "celeba/Smiling": (3.14, 0.86, 0.58, 2.20),
    "celeba/Wearing_Earrings": (2.77, 0.74, 0.10, 1.86),
    "celeba/Wearing_Lipstick": (3.17, 0.67, 0.45, 2.32),
    "celeba/Eyeglasses": (3.89, 0.98, 0.50, 2.91),
}
#: Mean attacks on the optimal classifier of the asymmetric problems, read from its figures.
ASYMMETRIC_MEANS: Numbers = {"celeba/Male": (0.9,), "celeba/Smiling": (0.8,)}
#: The same of the symmetric and the asymmetric problem, by the gradient attack with fixed steps.
CONTRAST_MEANS: Numbers = {"mnist/0-6": (3.0, 0.5)}
#: Clean accuracies in Table 1, as `CLASSIFIERS`.
CLEAN: Numbers = {
    "celeba/Bangs": (1.0, 1.0, 1.0, 0.96),
    "celeba/Black_Hair": (1.0, 0.98, 1.0, 0.96),
    "celeba/Brown_Hair": (1.0, 0.99, 1.0, 0.86),
    "celeba/Heavy_Makeup": (1.0, 1.0, 1.0, 0.96),
    "celeba/High_Cheekbones": (1.0, 1.0, 1.0, 0.96),
    "celeba/Male": (1.0, 1.0, 1.0, 1.0),
    "celeba/Mouth_Slightly_Open": (1.0, 1.0, 1.0, 0.94),
    "celeba/No_Beard": (1.0, 1.0, 1.0, 0.94),
    "celeba/Smiling": (1.0, 1.0, 1.0, 0.96),
    "celeba/Wearing_Earrings": (1.0, 0.99, 1.0, 0.94),
    "celeba/Wearing_Lipstick": (1.0, 1.0, 1.0, 0.92),
    "celeba/Eyeglasses": (1.0, 1.0, 1.0, 1.0),
}
#: Accuracies of the RBF SVM under attack in Table 1, where all clean ones are 1.
RBF_UNDER_ATTACK: Numbers = {"mnist/0-6": (0.04,), "mnist/2-7": (0.07,), "mnist/4-5": (0.08,)}
#: Mean attacks on real faces in Figure 11, as `CLASSIFIERS` without the optimal one.
REAL_MEANS: Numbers = {
    "celeba/Male": (0.28, 0.17, 2.38),
    "celeba/Smiling": (0.13, 0.12, 2.29),
    "celeba/Bangs": (0.18, 0.11, 4.00),
    "celeba/Heavy_Makeup": (0.12, 0.11, 2.38),
    "celeba/Eyeglasses": (0.20, 0.32, 4.71),
    # Figure 12.
    "cifar10/airplane-automobile": (0.57, 0.08, 1.89),
    "cifar10/automobile-bird": (0.70, 0.06, 2.47),
    "cifar10/bird-cat": (0.24, 0.08, 1.18),
    "cifar10/cat-deer": (0.29, 0.06, 1.47),
    "cifar10/deer-dog": (0.30, 0.07, 1.97),
    "cifar10/dog-frog": (0.36, 0.12, 1.41),
    "cifar10/frog-horse": (0.47, 0.06, 1.61),
    "cifar10/horse-ship": (0.51, 0.06, 2.39),
    "cifar10/ship-truck": (0.38, 0.07, 1.72),
    "cifar10/truck-airplane": (0.43, 0.07, 2.38),
}
#: Clean accuracies on real faces in Table 2, in the same order.
REAL_CLEAN: Numbers = {
    "celeba/Male": (0.947, 0.897, 0.897),
    "celeba/Smiling": (0.880, 0.883, 0.843),
    "celeba/Bangs": (0.940, 0.870, 0.937),
    "celeba/Heavy_Makeup": (0.860, 0.837, 0.857),
    "celeba/Eyeglasses": (1.0, 0.937, 0.963),
}
#: The anonymous version's Figure 12: clean accuracies and mean attacks.
FIRST_REAL_CLEAN: Numbers = {"celeba/Male": (0.963, 0.900, 0.893)}
FIRST_REAL_MEANS: Numbers = {"celeba/Male": (0.59, 0.15, 2.99)}
#: Accuracy on real test images, as `TRAINED_ON` (the anonymous version's Table 2).
TRANSFER: Numbers = {
    "celeba/Male": (0.923, 0.880),
    "celeba/Smiling": (0.895, 0.856),
    "celeba/Bangs": (0.943, 0.904),
    "celeba/Heavy_Makeup": (0.863, 0.799),
    "celeba/Eyeglasses": (0.984, 0.917),
}
#: Mean attacks in Figure 9, read from its vector graphics, by what is varied and its value.
SWEEPS: Mapping[str, Mapping[str, Mapping[int, float]]] = {
    "celeba/Male": {
        "width": {4: 0.79, 8: 0.87, 16: 0.78, 32: 0.71},
        "depth": {8: 0.81, 12: 0.74, 16: 0.70, 20: 0.72, 24: 0.67},
        "samples": {50_000: 0.69, 1_000_000: 0.85},
    },
    "celeba/Smiling": {
        "width": {4: 0.75, 8: 0.69, 16: 0.72, 32: 0.73},
        "depth": {8: 0.84, 12: 0.80, 16: 0.82, 20: 0.75, 24: 0.82},
        "samples": {50_000: 0.81, 1_000_000: 0.70},
    },
}
#: Mean attack and clean accuracy by beta in Figure 10, over five attributes.
TRADES: Mapping[int, tuple[float, float]] = {
    0: (0.71, 0.996),
    2: (2.94, 0.911),
    5: (3.61, 0.852),
    10: (4.34, 0.813),
}
#: Where the optimal classifier stands there.
TRADES_OPTIMAL = (3.36, 1.0)

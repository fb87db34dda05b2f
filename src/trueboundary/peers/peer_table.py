"""Which attacks of other libraries there are, one row each; a new one is a new row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PEERS", "Peer"]


@dataclass(frozen=True)
class Peer:
    """An attack of another library, with the settings that it runs with.

    Attributes
    ----------
    name : str
        ``library:attack``, as users name it.
    called : str
        What the library calls it.
    algorithm : str
        The algorithm's common name; several libraries have the same.
    publication : str
        Where it was published.
    settings : mapping
        What it is made with, in the library's own words.
    radius : str
        Which setting limits the distance, of an attack that wants a limit: the smallest that it
        succeeds with is searched for. Empty for attacks that minimise the distance themselves.
    image : bool
        Whether points must have three axes.
    probabilities : bool
        Whether it wants probabilities for logits.
    min_classes : int
        Number of classes that it needs.
    batch_size : int
        Number of samples that it is given at once: one, where it gives up on all as it fails on
        one.
    """

    name: str
    called: str
    algorithm: str
    publication: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    radius: str = ""
    image: bool = False
    probabilities: bool = False
    min_classes: int = 2
    batch_size: int = 64

    @property
    def library(self) -> str:
        """The library's name as it is imported, "foolbox" say."""
        return self.name.partition(":")[0]


_CW = "Carlini and Wagner 2017, arXiv:1608.04644"
_DDN = "Rony et al. 2019, arXiv:1811.09600"
_FMN = "Pintor et al. 2021, arXiv:2102.12827"
_DEEPFOOL = "Moosavi-Dezfooli et al. 2016, arXiv:1511.04599"
_BOUNDARY = "Brendel et al. 2018, arXiv:1712.04248"
_HSJ = "Chen et al. 2020, arXiv:1904.02144"
_EAD = "Chen et al. 2018, arXiv:1709.04114"
_NEWTON = "Jang et al. 2017, ACSAC"
_VAT = "Miyato et al. 2016, arXiv:1507.00677"
_PGD = "Madry et al. 2018, arXiv:1706.06083"
_FAB = "Croce and Hein 2020, arXiv:1907.02044"
_APGD = "Croce and Hein 2020, arXiv:2003.01690"
_ART: dict[str, Any] = {"batch_size": 64, "verbose": False}

_ROWS = (
    Peer(
        "foolbox:CW-3x500",
        "L2CarliniWagnerAttack",
        "Carlini-Wagner",
        _CW,
        {"binary_search_steps": 3, "steps": 500},
    ),
    Peer(
        "foolbox:CW-9x1000",
        "L2CarliniWagnerAttack",
        "Carlini-Wagner",
        _CW,
        {"binary_search_steps": 9, "steps": 1000},
    ),
    Peer("foolbox:DDN-100", "DDNAttack", "DDN", _DDN, {"steps": 100}),
    Peer("foolbox:DDN-1000", "DDNAttack", "DDN", _DDN, {"steps": 1000}),
    Peer("foolbox:FMN-100", "L2FMNAttack", "FMN", _FMN, {"steps": 100}),
    Peer("foolbox:FMN-1000", "L2FMNAttack", "FMN", _FMN, {"steps": 1000}),
    Peer("foolbox:DeepFool-50", "L2DeepFoolAttack", "DeepFool", _DEEPFOOL, {"steps": 50}),
    Peer(
        "foolbox:Boundary-2000",
        "BoundaryAttack",
        "Boundary",
        _BOUNDARY,
        {"steps": 2000},
        batch_size=1,
    ),
    Peer(
        "foolbox:BrendelBethge-100",
        "L2BrendelBethgeAttack",
        "Brendel-Bethge",
        "Brendel et al. 2019, arXiv:1907.01003",
        {"steps": 100, "lr": 0.1},  # the default lr of .001 needs ten times as many steps
        batch_size=1,
    ),
    Peer(
        "foolbox:HopSkipJump-10",
        "HopSkipJumpAttack",
        "HopSkipJump",
        _HSJ,
        {"steps": 10},
        batch_size=1,
    ),
    Peer(
        "foolbox:EAD-9x100",
        "EADAttack",
        "EAD",
        _EAD,
        {"binary_search_steps": 9, "steps": 100},
    ),
    Peer("foolbox:NewtonFool-100", "NewtonFoolAttack", "NewtonFool", _NEWTON, {"steps": 100}),
    Peer(
        "foolbox:PGD-50",
        "L2ProjectedGradientDescentAttack",
        "PGD",
        _PGD,
        {"steps": 50},
        radius="epsilons",
    ),
    Peer(
        "foolbox:MI-FGSM-10",
        "L2MomentumIterativeFastGradientMethod",
        "MI-FGSM",
        "Dong et al. 2018, arXiv:1710.06081",
        {"steps": 10},
        radius="epsilons",
    ),
    Peer(
        "foolbox:FGM",
        "L2FastGradientAttack",
        "FGM",
        "Goodfellow et al. 2015, arXiv:1412.6572",
        radius="epsilons",
    ),
    Peer(
        "foolbox:VAT-10",
        "VirtualAdversarialAttack",
        "VAT",
        _VAT,
        {"steps": 10},
        radius="epsilons",
    ),
    Peer(
        "art:CW-10x10",
        "CarliniL2Method",
        "Carlini-Wagner",
        _CW,
        {"binary_search_steps": 10, "max_iter": 10} | _ART,
    ),
    Peer("art:DeepFool-100", "DeepFool", "DeepFool", _DEEPFOOL, {"max_iter": 100} | _ART),
    Peer(
        "art:EAD-9x100",
        "ElasticNet",
        "EAD",
        _EAD,
        {"binary_search_steps": 9, "max_iter": 100} | _ART,
    ),
    Peer(
        "art:NewtonFool-100",
        "NewtonFool",
        "NewtonFool",
        _NEWTON,
        {"max_iter": 100} | _ART,
        probabilities=True,
    ),
    Peer(
        "art:HopSkipJump-10",
        "HopSkipJump",
        "HopSkipJump",
        _HSJ,
        {"max_iter": 10, "max_eval": 1000} | _ART,
    ),
    Peer(
        "art:PGD-50",
        "ProjectedGradientDescent",
        "PGD",
        _PGD,
        {"norm": 2, "max_iter": 50} | _ART,
        radius="eps",
    ),
    Peer("torchattacks:CW-500", "CW", "Carlini-Wagner", _CW, {"steps": 500}, image=True),
    Peer("torchattacks:DeepFool-50", "DeepFool", "DeepFool", _DEEPFOOL, {"steps": 50}, image=True),
    Peer(
        "torchattacks:FAB-100",
        "FAB",
        "FAB",
        _FAB,
        {"norm": "L2", "steps": 100, "eps": 1e3},
        image=True,
    ),
    Peer(
        "torchattacks:EAD-9x100",
        "EADEN",
        "EAD",
        _EAD,
        {"binary_search_steps": 9, "max_iterations": 100},
        image=True,
    ),
    Peer(
        "torchattacks:PGD-50",
        "PGDL2",
        "PGD",
        _PGD,
        {"steps": 50},
        radius="eps",
        image=True,
    ),
    Peer(
        "torchattacks:APGD-50",
        "APGD",
        "APGD",
        _APGD,
        {"norm": "L2", "steps": 50},
        radius="eps",
        image=True,
    ),
    Peer(
        "adv_lib:CW-9x1000",
        "carlini_wagner_l2",
        "Carlini-Wagner",
        _CW,
        {"binary_search_steps": 9, "max_iterations": 1000},
    ),
    Peer("adv_lib:DDN-100", "ddn", "DDN", _DDN, {"steps": 100, "levels": None}),
    Peer("adv_lib:DDN-100-quantised", "ddn", "DDN", _DDN, {"steps": 100}),
    Peer("adv_lib:FMN-100", "fmn", "FMN", _FMN, {"norm": 2, "steps": 100}),
    Peer("adv_lib:DeepFool-100", "df", "DeepFool", _DEEPFOOL, {"steps": 100}),
    Peer(
        "adv_lib:SuperDeepFool-100",
        "sdf",
        "SuperDeepFool",
        "Abdollahpoorrostam et al. 2023, arXiv:2303.12481",
        {"steps": 100},
    ),
    Peer(
        "adv_lib:ALMA-500",
        "alma",
        "ALMA",
        "Rony et al. 2021, arXiv:2011.11857",
        {"num_steps": 500, "distance": "l2"},
        min_classes=3,
    ),
    Peer(
        "adv_lib:PDGD-500",
        "pdgd",
        "PDGD",
        "Matyasko and Chau 2021, arXiv:2106.01538",
        {"num_steps": 500},
    ),
    Peer("adv_lib:FAB-100", "fab", "FAB", _FAB, {"norm": 2, "n_iter": 100}),
    Peer(
        "adv_lib:TR-1000",
        "tr",
        "Trust region",
        "Yao et al. 2019, arXiv:1812.06371",
        {"iter": 1000, "p": 2},
    ),
    Peer(
        "adv_lib:APGD-minimal-20x100",
        "auto_pgd.minimal_apgd",
        "APGD",
        _APGD,
        {"norm": 2, "max_eps": 8.0, "binary_search_steps": 20, "n_iter": 100},
        min_classes=3,
    ),
)

PEERS: Mapping[str, Peer] = {row.name: row for row in _ROWS}
"""All rows by their names."""

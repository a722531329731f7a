"""Shared by several sections: descriptions, flags, and the dense CRF."""

from mcis_cli.config.setting import Config, Flag, setting
from mcis_cli.config.values import BACKBONES

# Settings that several sections have.
WEIGHTS = "initial weights: a file (.pth, .safetensors) or an artifact of mcis import; hashed by content, not by name"
PRECISION = "number format of matrix products; auto uses bf16 where the hardware has it"
FROZEN = "first stages of the backbone that do not learn, 0 to 5"
NORMALIZATION = "of each map: (m − min) / (max − min), or m / max"
ENLARGING = "of maps to the image's size [2]"
CRF = "parameters of the dense CRF"
ONE_BACKBONE = Flag(metavar="NAME", offers=(*BACKBONES, "timm:"))
ONE_SPLIT = Flag("split", metavar="NAME", offers="split")
ONE_NUMBER = Flag(metavar="X")
COUNT = Flag(metavar="N")
FACTORS = Flag(metavar="X[,X…]")
WEIGHTS_FILE = Flag(metavar="PATH", path="file or artifact")


class CrfConfig(Config):
    """Dense CRF: mean-field steps, and the two pairwise terms (widths in pixels and grey levels)."""

    iterations: int = setting(10, "mean-field steps [9]", ge=1)
    gaussian_xy: float = setting(3, "width of the smoothness term, pixels", gt=0)
    gaussian_weight: float = setting(1, "weight of the smoothness term", ge=0)
    bilateral_xy: float = setting(80, "width of the appearance term, pixels", gt=0)
    bilateral_rgb: float = setting(4, "width of the appearance term, grey levels", gt=0)
    bilateral_weight: float = setting(3, "weight of the appearance term", ge=0)


class SureCrfConfig(CrfConfig):
    """Dense CRF of the confident regions of maps; stronger than that of predictions."""

    gaussian_weight: float = setting(3, "weight of the smoothness term", ge=0)
    bilateral_rgb: float = setting(13, "width of the appearance term, grey levels", gt=0)
    bilateral_weight: float = setting(10, "weight of the appearance term", ge=0)

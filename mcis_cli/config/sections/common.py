"""What several sections have: descriptions and flags."""

from mcis_cli.config.setting import Flag
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

"""Dense CRFs: a table below other sections."""

from mcis_cli.config.setting import Config, setting


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

"""Settings without effect, and what recipes keep: conditions on fields are all that is needed to know it."""

from collections.abc import Mapping
from typing import ClassVar

import pytest

from mcis_cli.config import (
    SECTIONS,
    CamsConfig,
    Config,
    EvalConfig,
    PseudoConfig,
    TrainSegConfig,
    setting,
    unless,
    when,
)

MAPS = {"evidence": "maps"}


class Toy(Config):
    """A section."""

    FACTS: ClassVar[Mapping[str, Mapping[str, str]]] = {"subject": {"maps": "on maps", "masks": "on masks"}}

    mode: str = setting("plain", "how", flag=True)
    count: int = setting(3, "how many", used=unless(mode="none"), omitted_at=3)
    weight: float = setting(0.5, "how much [3]", used=when(mode="plain") | when(subject="masks", mode="odd"))
    sign: str = setting("+", "which", used=when(subject="masks"), in_recipe="always", changes_cost=False)
    file: str | None = setting(None, "where", in_recipe="never")


@pytest.mark.parametrize(
    ("toy", "subject", "kept"),
    [
        (Toy(), "maps", {"mode": "plain", "weight": 0.5, "sign": "+"}),
        (Toy(count=4, file="x"), "maps", {"mode": "plain", "count": 4, "weight": 0.5, "sign": "+"}),
        (Toy(mode="odd"), "masks", {"mode": "odd", "weight": 0.5, "sign": "+"}),
        (Toy(mode="none", count=4), "masks", {"mode": "none", "sign": "+"}),
    ],
)
def test_a_recipe_keeps_what_has_an_effect_and_omits_what_it_omitted_at_first(toy, subject, kept):
    assert toy.recipe_settings(subject=subject) == kept


def test_a_recipe_needs_every_fact():
    with pytest.raises(AssertionError, match="Toy needs subject"):
        Toy().recipe_settings()


def test_what_a_recipe_omits_is_implied_where_it_has_an_effect():
    assert Toy.implied_by({"mode": "plain"}) == {"count": 3}
    assert Toy.implied_by({"mode": "none"}) == {}
    assert Toy.implied_by({"mode": "plain", "count": 4}) == {}


def test_a_fact_of_the_run_explains_before_settings_do_and_an_unknown_one_may_be_right():
    assert Toy(mode="odd").without_effect(["weight"], subject="maps") == {"weight": "with --mode odd"}
    assert Toy(mode="none").without_effect(["sign"], subject="maps") == {"sign": "on maps"}
    assert Toy(mode="odd").without_effect(["weight"]) == {}
    assert Toy(mode="none").without_effect(["weight", "count", "other"]) == {
        "count": "with --mode none",
        "weight": "with --mode none",
    }


def test_only_settings_that_say_so_are_free():
    assert Toy.cost_free() == {"sign"}


@pytest.mark.parametrize(
    ("background", "fusion", "unused"),
    [
        ("saliency", "hard", {"background_power": "b", "background_score": "b", "sharpness": "f"}),
        ("constant", "hard", {"background_power": "b", "conflict_threshold": "b", "sharpness": "f"}),
        ("power", "hard", {"background_score": "b", "conflict_threshold": "b", "sharpness": "f"}),
        ("saliency", "soft", {"background_power": "b", "conflict_threshold": "f"}),
        (
            "otsu",
            "hard",
            {"background_power": "b", "background_score": "b", "conflict_threshold": "b", "sharpness": "f"},
        ),
        ("constant", "soft", {"background_power": "b", "conflict_threshold": "bf"}),
        ("power", "soft", {"background_score": "b", "conflict_threshold": "bf"}),
    ],
)
def test_settings_that_a_background_and_a_fusion_do_not_use_are_known(background, fusion, unused):
    given = ("background_power", "background_score", "conflict_threshold", "sharpness")
    choices = {"b": f"--background {background}", "f": f"--fusion {fusion}"}
    told = {name: "with " + " and ".join(choices[letter] for letter in letters) for name, letters in unused.items()}
    assert PseudoConfig(background=background, fusion=fusion).without_effect(given, **MAPS) == told


CRF = ("crf_confidence", "crf_settings")
OF_REFERENCES = ("reference_choice", "reference_self", "seed", "with_contrastive")


@pytest.mark.parametrize(
    ("config", "facts", "given", "told"),
    [
        (PseudoConfig(), MAPS, CRF, dict.fromkeys(CRF, "without --crf")),
        (PseudoConfig(crf=True), MAPS, (*CRF, "flip"), {"flip": "on masks of maps without --network"}),
        (PseudoConfig(), {"evidence": "maps and network"}, ("flip", "network_weight"), {}),
        (PseudoConfig(), {"evidence": "network"}, ("flip", "background"), {"background": "on masks of a network"}),
        (CamsConfig(), {}, (*OF_REFERENCES, "flip"), {}),
        (CamsConfig(refs=0), {}, (*OF_REFERENCES, "flip"), dict.fromkeys(OF_REFERENCES, "with --refs 0")),
        (
            CamsConfig(reference_choice="nearest"),
            {},
            OF_REFERENCES,
            dict.fromkeys(("reference_self", "seed"), "with --reference-choice nearest"),
        ),
        (
            CamsConfig(localization="released"),
            {},
            ("flip", "scales", "seed"),
            dict.fromkeys(("flip", "scales"), "with localization = released"),
        ),
        (TrainSegConfig(epochs=2), {}, ("iterations",), {"iterations": "with --epochs 2"}),
        (EvalConfig(), {"subject": "pseudo masks"}, ("flip",), {"flip": "on scores of pseudo masks"}),
    ],
)
def test_settings_without_effect_are_known_with_the_reason(config, facts, given, told):
    assert config.without_effect(given, **facts) == told


@pytest.mark.parametrize("section", SECTIONS.values())
def test_conditions_name_fields_and_facts_with_words(section):
    for name in section.model_fields:
        for choice in (one for all_of in section.facts_of(name).used.alternatives for one in all_of):
            assert choice.name in section.model_fields or set(choice.values) <= set(section.FACTS[choice.name])

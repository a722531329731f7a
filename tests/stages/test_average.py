"""`average`: the maps of several classifiers in one."""

import re

import numpy as np
import pytest
from tiny_chain import Heard, options

from mcis_cli.config import AverageConfig
from mcis_cli.errors import MissingError, UnfinishedError, UsageError
from mcis_cli.stages.average import run as average
from mcis_cli.stages.cams import run as cams
from mcis_cli.stages.engine.inputs import Inputs
from mcis_cli.stages.pseudo import run as pseudo
from mcis_cli.store import open_store


@pytest.fixture(scope="module")
def pair(chain):
    """Maps of one classifier on two grids."""
    settings = chain.settings(cams={"image_size": 96, "refs": 0}).cams
    return chain.made["cams"], cams.run(settings, Inputs(upstream=chain.made["train-cls"]), chain.store, options())


def averaged(chain, maps, reporter=None, **given):
    first, *more = maps
    run = options(reporter=reporter or Heard())
    return average.run(AverageConfig(**given), Inputs(upstream=first, more=tuple(more)), chain.store, run)


def test_two_maps_by_hand():
    """Of normalised maps (1, 0.5) and (0, 1): mean (0.5, 0.75), again at maximum 1; minimum (0, 0.5), the same."""
    maps = [np.array([[[4, 2]]], np.float32), np.array([[[-1, 8]]], np.float32)]
    np.testing.assert_allclose(average.combined(AverageConfig(), maps), [[[2 / 3, 1]]], rtol=1e-6)
    np.testing.assert_allclose(average.combined(AverageConfig(combine="minimum"), maps), [[[0, 1]]], rtol=1e-6)


def test_maps_that_agree_on_nothing_are_zero():
    maps = [np.array([[[1, 0]]], np.float32), np.array([[[0, 1]]], np.float32)]
    assert not average.combined(AverageConfig(combine="minimum"), maps).any()


def test_records_are_those_of_both_on_the_finer_grid_whatever_their_order(chain, pair):
    made = averaged(chain, pair)
    assert made.ids == pair[0].ids
    assert averaged(chain, pair[::-1]).id == made.id
    image_id = made.ids[1]
    coarse, fine = sorted((one.read(image_id)["maps"].astype(np.float32) for one in pair), key=lambda one: one.shape[1])
    found = made.read(image_id)
    assert found["maps"].shape == fine.shape
    assert found["classes"].tolist() == pair[0].read(image_id)["classes"].tolist()
    assert coarse.shape[1] < fine.shape[1]
    both = average.combined(AverageConfig(), [coarse, fine])
    np.testing.assert_allclose(found["maps"], both, atol=1e-3)


def test_images_without_tags_have_no_maps():
    empty = np.zeros((0, 4, 6), np.float32)
    assert average.combined(AverageConfig(), [empty, empty]).shape == (0, 4, 6)


def test_a_shard_without_a_segment_has_nothing_to_do(chain, pair):
    first, second = pair
    with pytest.raises(UnfinishedError, match="shard 2/2 has nothing to do"):
        average.run(
            AverageConfig(combine="minimum", normalization="minmax"),
            Inputs(upstream=first, more=(second,)),
            chain.store,
            options(shard=(2, 2)),
        )


def test_cached_ones_are_not_computed_again(chain, pair):
    made, heard = averaged(chain, pair), Heard()
    assert averaged(chain, pair, heard).id == made.id
    assert heard.started == []


def test_pseudo_masks_are_made_of_them(chain, pair):
    config = chain.settings(pseudo={"background": "constant"}).pseudo
    masks = pseudo.run(config, Inputs(upstream=averaged(chain, pair)), chain.store, options())
    assert masks.ids == pair[0].ids


def test_what_does_not_fit_is_refused(chain, pair):
    first = pair[0]
    with pytest.raises(UsageError, match="found 1 artifact named 1 time: give two or more"):
        averaged(chain, [first])
    with pytest.raises(UsageError, match="found 1 artifact named 2 times"):
        averaged(chain, [first, first])
    with pytest.raises(UsageError, match=r"pseudo-.*\.h5 was made by pseudo: expected localization maps"):
        averaged(chain, [first, chain.made["pseudo"]])
    with pytest.raises(MissingError, match="nothing to work on"):
        average.run(AverageConfig(), Inputs(), chain.store, options())
    settings = chain.settings(cams={"split": "val"}).cams
    others = cams.run(settings, Inputs(upstream=chain.made["train-cls"]), chain.store, options())
    with pytest.raises(UsageError, match="expected the same images"):
        averaged(chain, [first, others])


@pytest.mark.slow
def test_the_command_its_dry_run_and_how_it_is_made_again(chain_copy, call):
    folder, store = chain_copy.folder, chain_copy.store
    first = chain_copy.made["cams"]
    (second,) = call("cams", "--refs", "0", cwd=folder).lines
    answer = call("average", first.id[:12], second, "--dry-run", cwd=folder)
    assert answer.code == 0, answer.err
    assert "run: nothing of average was made before" in answer.out
    answer = call("average", first.id[:12], "--dry-run", cwd=folder)
    assert answer.code == 2
    assert "found 1 artifact named 1 time: give two or more" in answer.err
    (made,) = call("average", first.id[:12], second, cwd=folder).lines
    assert call("average", second, first.id[:12], "-q", cwd=folder).lines == [store.get(made).id]
    assert call("show", "--why", made, cwd=folder).lines == ["nothing differs: the stage is cached"]
    assert (
        "combine: mean, now minimum" in call("show", "--why", made, "--set", "average.combine=minimum", cwd=folder).out
    )
    path = open_store(folder / ".mcis").get(made).path
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    answer = call("verify", "--repair", cwd=folder)
    (again,) = re.findall(r"mcis average ([0-9a-f]{12}) ([0-9a-f]{12})", answer.out + answer.err)
    assert {*again} == {first.id[:12], store.get(second).id[:12]}


def test_every_command_that_takes_maps_takes_averaged_ones(chain_copy, call):
    folder = chain_copy.folder
    (second,) = call("cams", "--refs", "0", cwd=folder).lines
    (made,) = call("average", chain_copy.made["cams"].id[:12], second, cwd=folder).lines
    (masks,) = call("pseudo", made, cwd=folder).lines
    for command in (
        ("eval", made),
        ("eval", masks),
        ("report", masks, "-o", "page.html"),
        ("report", made, "-o", "page.html"),
        ("export", made, "--maps", "-o", "maps"),
        ("show", made),
        ("ls",),
        ("status",),
        ("gc", "--artifacts"),
    ):
        answer = call(*command, cwd=folder)
        assert answer.code == 0, (command, answer.err)
    assert "averaged maps do not record references" in (folder / "page.html").read_text(encoding="utf-8")

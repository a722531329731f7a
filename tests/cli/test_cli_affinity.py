"""`mcis affinity` and what knows its stages: status, why, verify, gc, run; and networks that are imported."""

import pytest
import torch
from affinity_chain import TOML, run_walk
from repairs import make_again
from run_commands import mcis, shell
from tiny_chain import write_shapes

from mcis_cli.models.backbones import build_backbone
from mcis_cli.models.pairwise_affinity import PairwiseAffinity
from mcis_cli.store import open_store, segments

WALKING = ("--set", "pseudo.background=affinity")
NAMES = ("affinity-labels", "affinity-net", "affinity")


@pytest.fixture(scope="module")
def walked_once(untouched, tmp_path_factory):
    """A finished chain whose configuration includes a walk; only to be copied."""
    from tiny_chain import copy_chain

    chain = copy_chain(untouched, tmp_path_factory.mktemp("walked") / "work")
    with (chain.folder / "mcis.toml").open("a") as file:
        file.write(TOML + '\n[pseudo]\nbackground = "affinity"\n')
    return chain, run_walk(chain)


@pytest.fixture
def walked(walked_once, tmp_path):
    from tiny_chain import copy_chain

    chain, made = walked_once
    copy = copy_chain(chain, tmp_path / "copy")
    return copy, {stage: copy.store.get(one.id) for stage, one in made.items()}


@pytest.mark.slow
def test_the_command_finds_what_the_stages_made(call, walked_once):
    chain, made = walked_once
    answer = call("affinity", cwd=chain.folder)
    assert answer.code == 0
    assert [line.rpartition("/")[2] for line in answer.lines] == [made["affinity"].path.name]
    assert f"affinity-net: {made['affinity-net'].path.stem}" in answer.err
    assert "cached" in answer.err


def test_a_network_that_is_named_is_walked_by(call, walked):
    chain, made = walked
    network = made["affinity-net"].id[:12]
    answer = call("affinity", "--network", network, "--epochs", "5", cwd=chain.folder)
    assert answer.lines[0].endswith(made["affinity"].path.name)
    assert "--epochs has no effect with --network" in answer.err


def test_settings_of_the_training_are_told_beside_a_network(call, walked):
    chain, made = walked
    given = ("--network", made["affinity-net"].id, "--set", "affinity.lr=0.2", "--set", "affinity.walk_doublings=4")
    answer = call("affinity", *given, "-q", cwd=chain.folder)
    told = "mcis: warning: affinity.lr has no effect with --network: nothing is trained"
    assert answer.err.splitlines() == [told]  # neither the walk's settings nor those of the file


def test_status_has_a_row_for_each_stage_where_masks_want_a_walk(call, walked, chain):
    copy, made = walked
    rows = {line.split()[0]: line.split()[1:] for line in call("status", cwd=copy.folder).lines[1:]}
    assert list(rows) == ["train-cls", "cams", *NAMES, "pseudo", "train-seg", "eval"]
    assert {name: rows[name] for name in NAMES} == {name: ["done", made[name].path.stem] for name in NAMES}
    assert rows["pseudo"][:2] == ["to", "do"]
    answer = call("status", "--set", "affinity.lr=0.03", cwd=copy.folder)
    assert [line.split()[1] for line in answer.lines[3:7]] == ["done", "to", "waits", "waits"]
    assert "run `mcis affinity`" in answer.out
    assert "affinity" not in call("status", cwd=chain.folder).out


def test_why_a_stage_would_run_again(call, walked):
    copy, made = walked
    for stage in NAMES:
        answer = call("show", "--why", stage, cwd=copy.folder)
        assert answer.lines == ["nothing differs: the stage is cached"]
    answer = call("show", "--why", "affinity", "--set", "affinity.walk_power=2.0", cwd=copy.folder)
    assert answer.lines == ["config.walk_power: 1.0, now 2.0"]
    answer = call("show", "--why", "affinity", "--set", "affinity.lr=0.03", cwd=copy.folder)
    network = made["affinity-net"].path.stem
    (line,) = answer.lines
    assert line.startswith(f"inputs.network: {network}, now the result of `mcis affinity`, not made yet (")
    assert line.endswith("; why: mcis show --why affinity-net")
    made["affinity-net"].path.unlink()
    assert call("show", "--why", "affinity-net", cwd=copy.folder).lines[0].startswith("nothing differs; the stage ")


@pytest.mark.slow
@pytest.mark.parametrize("stage", NAMES)
def test_a_damaged_artifact_is_made_again(call, walked, one_thread, stage):
    copy, made = walked
    path = made[stage].path
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-7])
    make_again(call, copy.folder)
    assert open_store(copy.folder / ".mcis").get(made[stage].id).is_intact()


def test_gc_keeps_what_the_configuration_walks_by(call, walked):
    copy, made = walked
    answer = call("gc", cwd=copy.folder)
    assert not [name for name in NAMES if made[name].path.stem in answer.out]
    answer = call("gc", "--set", "pseudo.background=constant", cwd=copy.folder)
    assert answer.code in (0, 2)


def test_walked_maps_are_exported_and_scored(call, walked, tmp_path):
    copy, made = walked
    answer = call("export", made["affinity"].id[:12], "--maps", "-o", tmp_path / "maps", cwd=copy.folder)
    assert answer.code == 0, answer.err
    assert len(list((tmp_path / "maps").rglob("*.npy"))) == len(made["affinity"])
    answer = call("eval", made["affinity"].path, cwd=copy.folder)
    assert answer.code == 0
    assert "maps after their walk, split train" in answer.err


def test_masks_without_a_walk_say_what_to_run(call, chain_copy):
    answer = call("pseudo", *WALKING, cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (3, "")
    assert "run `mcis affinity` first" in answer.err
    answer = call("pseudo", chain_copy.made["cams"].path, *WALKING, cwd=chain_copy.folder)
    assert (answer.code, answer.out) == (2, "")
    assert "compares maps after their walk" in answer.err


@pytest.mark.slow
def test_shards_make_what_one_command_makes(call, walked_once, chain_copy, monkeypatch):
    """They share the regions and the walk; the one that completes the regions trains."""
    monkeypatch.setattr(segments, "SEGMENT_SIZE", 3)
    with (chain_copy.folder / "mcis.toml").open("a") as file:
        file.write(TOML)
    told = []
    for number in (1, 2, 1):
        answer = call("affinity", "--shard", f"{number}/2", cwd=chain_copy.folder)
        assert answer.code == 0, answer.err
        told.append((len(answer.lines), sorted({one.stage for one in chain_copy.store.artifacts()} & {*NAMES})))
    assert told == [(0, []), (0, ["affinity-labels", "affinity-net"]), (1, sorted(NAMES))]
    assert chain_copy.store.get(answer.lines[0]).id == walked_once[1]["affinity"].id


# Networks of others


def network_file(folder, change=lambda state: None):
    """A trained network as the authors name its layers, in a file."""
    torch.manual_seed(3)
    network = PairwiseAffinity(build_backbone("lite0", role="segmentation"))
    state = {name.removeprefix("backbone.trunk."): value for name, value in network.state_dict().items()}
    change(state)
    torch.save(state, folder / "aff.pth")
    return state


@pytest.mark.slow
def test_a_network_of_its_authors_is_imported_tensor_by_tensor_and_walked_by(call, walked):
    copy, _ = walked
    state = network_file(copy.folder)
    answer = call("import", "--affinity-net", "aff.pth", "--backbone", "lite0", cwd=copy.folder)
    assert answer.code == 0, answer.err
    imported = copy.store.get(answer.lines[0])
    assert imported.stage == "affinity-net"
    found = {name.removeprefix("backbone.trunk."): value for name, value in imported.tensors().items()}
    assert found.keys() == state.keys()
    assert all((found[name] == value.numpy()).all() for name, value in state.items())
    answer = call("affinity", "--network", imported.id[:12], cwd=copy.folder)
    assert answer.code == 0, answer.err
    assert copy.store.get(answer.lines[0]).inputs["network"] == imported.id
    again = call("import", "--affinity-net", "aff.pth", "--backbone", "lite0", "-q", cwd=copy.folder)
    assert again.lines == [imported.id]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("f9.weight"), "1 tensor of another kind (f9.weight is missing)"),
        (
            lambda state: state.update({"f8_3.weight": torch.zeros(64, 512, 1, 1), "f8_9.bias": torch.zeros(1)}),
            "(f8_9.bias is unknown; f8_3.weight is (64, 512, 1, 1), not (64, 40, 1, 1))",
        ),
        (lambda state: state.pop("conv_stem.weight"), "conv_stem.weight is missing"),
    ],
)
def test_what_does_not_fit_is_listed(call, tmp_path, change, told):
    network_file(tmp_path, change)
    answer = call("import", "--affinity-net", "aff.pth", "--backbone", "lite0", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err
    assert not list(tmp_path.glob(".mcis/artifacts/*"))


def test_a_dozen_of_what_does_not_fit_is_listed(call, tmp_path):
    network_file(tmp_path, lambda state: state.update({f"f8_9.{number}": torch.zeros(1) for number in range(14)}))
    answer = call("import", "--affinity-net", "aff.pth", "--backbone", "lite0", cwd=tmp_path)
    assert answer.code == 2
    assert "14 tensors of another kind (f8_9.0 is unknown; f8_9.1 is unknown; " in answer.err
    assert "f8_9.11 is unknown; and 2 more); choose" in answer.err


def test_an_imported_network_needs_to_be_named(call, tmp_path):
    network_file(tmp_path)
    answer = call("import", "--affinity-net", "aff.pth", cwd=tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert "expected --backbone" in answer.err


# The whole way


@pytest.mark.slow
def test_the_whole_way_of_the_challenge_in_one_line(tmp_path):
    """As `--preset lid20` has it, on a small backbone and in small."""

    def small(section, *given):
        return " ".join(f"--set '{section}.{one}'" for one in given)

    write_shapes(tmp_path / "shapes")
    sizes = ("image_size=107", "long_side=[107,128]", "batch_pairs=8", "epochs=1")
    answer = shell(
        f"mcis train-cls shapes --preset lid20 --backbone lite0 --equivariant {small('train-cls', *sizes)} "
        "| mcis cams --image-size 64 --scales 1,0.5 "
        f"| mcis affinity --backbone lite0 {small('affinity', 'crop=48', 'epochs=1', 'batch_size=5')} "
        "| mcis pseudo --background affinity --background-threshold 0.2 "
        "| mcis train-seg --architecture deeplabv3 --backbone lite0 "
        f"{small('train-seg', 'crop=65', 'epochs=1', 'batch_size=5')} "
        "| mcis eval --scales 0.75,1",
        cwd=tmp_path,
    )
    assert answer.code == 0, answer.err
    assert answer.lines[0].rpartition("/")[2].startswith("eval-")
    store = open_store(tmp_path / ".mcis")
    made = {artifact.stage: artifact for artifact in store.artifacts()}
    settings = {stage: artifact.manifest["recipe"]["config"] for stage, artifact in made.items()}
    assert settings["train-cls"]["equivariant"]
    assert settings["train-cls"]["lr_schedule"] == "poly"
    assert any(name.startswith("pixel_correlation.") for name in made["train-cls"].tensors())
    assert (settings["cams"]["refine"], settings["cams"]["flip"], settings["cams"]["refs"]) == (True, True, 0)
    assert made["cams"].read(made["cams"].ids[0])["maps"].shape[1:] == (8, 8)  # 64 pixels at output stride 8
    assert made["affinity"].inputs["maps"] == made["cams"].id
    assert made["affinity"].inputs["network"] == made["affinity-net"].id
    assert made["pseudo"].inputs["maps"] == made["affinity"].id
    assert made["train-seg"].meta["model"]["network"] == "deeplabv3"
    assert made["eval"].meta["settings"]["crf"]
    assert made["eval"].meta["settings"]["flip"]


@pytest.mark.slow
def test_the_chain_of_a_configuration_walks_where_its_masks_want_that(walked):
    copy, made = walked
    answer = mcis("run", "--set", "train-seg.network=deeplabv3", cwd=copy.folder)
    assert answer.code == 0, answer.err
    assert f"affinity: cached, {made['affinity'].path.stem}" in answer.err
    assert "train-seg.head_channels" not in answer.out
    status = mcis("status", cwd=copy.folder)
    rows = {line.split()[0]: line.split()[1] for line in status.lines[1:]}
    assert rows["pseudo"] == "done"

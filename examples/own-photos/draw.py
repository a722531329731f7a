"""Draws 40 photographs into mine/photos, and writes into mine/tags.csv what is on them: a set to try things on."""

from pathlib import Path

from PIL import Image

from mcis_cli.data.synthetic.image_set import draw_scene
from mcis_cli.data.synthetic.shapes import kinds

NUM_PHOTOGRAPHS, NUM_CLASSES = 40, 4
SIZE = (128, 176)  # smallest and largest side, in pixels
SEED = 40


def main(folder: Path) -> None:
    """Draw the photographs, and write the table."""
    chosen = kinds(NUM_CLASSES)
    (folder / "photos").mkdir(parents=True)
    rows = ["image,tags"]
    for number in range(1, NUM_PHOTOGRAPHS + 1):
        name = f"photos/{number:03}.jpg"
        scene = draw_scene(SEED, chosen, SIZE, name)
        Image.fromarray(scene.image).save(folder / name, quality=92)
        rows.append(f"{name},{';'.join(chosen[k].name for k in scene.labels)}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main(Path("mine"))

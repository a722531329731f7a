"""Draws the synthetic set of this example: `shapes`, with ground truth, which plays the annotator."""

from pathlib import Path

from mcis_cli.data.synthetic.image_set import write_synthetic

NUM_TRAIN, NUM_VAL = 60, 20


def main(folder: Path = Path("shapes")) -> None:
    """Draw the images, their tags, saliency maps and masks."""
    write_synthetic(folder, num_train=NUM_TRAIN, num_val=NUM_VAL, num_classes=4, size=(96, 128), seed=0)


if __name__ == "__main__":
    main()

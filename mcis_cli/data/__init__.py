"""Images, tags, saliency maps and ground truth: formats, checking, pairs, references, augmentation."""

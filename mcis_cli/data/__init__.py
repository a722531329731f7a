"""Images, tags, saliency maps and ground truth: from a folder to a catalogue, and to pairs, references and views.

`layouts` reads the layouts of image sets, `synthetic` draws the synthetic set.
"""

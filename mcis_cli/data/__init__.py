"""Images, tags, saliency maps and ground truth: from a folder to a catalogue, and on to pairs, references and views.

A folder each for the layouts of image sets, for exports, for files of other projects, and for the synthetic set.
"""

"""The stage `average`: one map of each class from the maps of several classifiers."""

"""The layouts of image sets: a reader for each, which makes a listing without opening images."""

"""What the layouts of image sets say before any image is opened: a reader for each, and the listings they give."""

"""Which files count as photographs, masks and saliency maps, by their names and size. Needs no library."""

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
MAX_IMAGE_BYTES = 512 * 2**20

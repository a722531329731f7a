"""Which files count as photographs, masks and saliency maps, by their names and size; which ids are valid. Needs no
library."""

import unicodedata

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif"})
MAX_IMAGE_BYTES = 512 * 2**20
MAX_ID_LENGTH = 200
# Files that systems and tools leave in folders of photographs; hidden names are also left out.
JUNK_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information", "#recycle", "lost+found"}
)


def id_fault(image_id: str) -> str | None:
    """The fault of an image id, or None.

    An id is a relative POSIX path without extension; it must not leave its folder, nor contain a line break.
    """
    if not image_id:
        return "an empty image id"
    if len(image_id) > MAX_ID_LENGTH:
        return f"an image id of {len(image_id)} characters, expected at most {MAX_ID_LENGTH}"
    if not image_id.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in image_id):
        return f"the image id {image_id!r} has characters that are no text"
    if image_id.startswith("/") or not {"", ".", ".."}.isdisjoint(image_id.split("/")):
        return f"the image id {image_id!r} leaves its folder, expected a plain relative path"
    return None

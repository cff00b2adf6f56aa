"""Images: where they come from (`sources`), how they are divided (`splits`), how stages read them (`images`)."""

from robustgen.data.images import ImageSet, check_images, load_split

__all__ = ["ImageSet", "check_images", "load_split"]

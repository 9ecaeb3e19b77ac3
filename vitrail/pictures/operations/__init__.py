"""What training augmentation does to pixels. Nothing is drawn here: the same arguments give the same bytes.

Crops and flips take pictures as they lie in files, (H, W, C). All other operations take a batch of planes, uint8
(B, C, H, W) with C 1 or 3, and one argument per picture, (B,): a picture alone is a batch of one, so that what is done
to a batch and to its pictures one by one is the same to the byte. Each gives what timm 1.0.31's operation of that name
gives at the same argument, that is: what Pillow gives, of any version from 10 to 13.
"""

from vitrail.pictures.operations.boxes import resized_boxes
from vitrail.pictures.operations.crops import Pixels, crop_resize, flip, flip_batch, pad_crop_batch
from vitrail.pictures.operations.planes import Planes, as_pixels, as_planes

__all__ = [
    "Pixels",
    "Planes",
    "as_pixels",
    "as_planes",
    "crop_resize",
    "flip",
    "flip_batch",
    "pad_crop_batch",
    "resized_boxes",
]

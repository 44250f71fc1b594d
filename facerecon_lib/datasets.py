"""Where training faces come from: rendered with known truth, or shards of real photos.

    faces = RenderedFaces(model, seed=3)                       # endless, any face at any time
    photos = PhotoShards("shards/", batch_size=32, part="train", split="person")
    part_of(key, person, split="random")                       # the report's 70/15/15

This is the way in for users; each part lives in a module of its own: `rendered_faces`,
`photo_shards` (reading; `photo_samples` writes), `splits`.
"""

from .face_batch import FaceBatch
from .photo_samples import ShardWriter
from .photo_shards import PhotoShards, ShardsError
from .rendered_faces import RenderedFaces
from .splits import exact_parts, part_of, person_leak

__all__ = ["FaceBatch", "PhotoShards", "RenderedFaces", "ShardWriter", "ShardsError"]
__all__ += ["exact_parts", "part_of", "person_leak"]

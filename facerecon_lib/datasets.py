"""Where training faces come from: rendered with known truth, or shards of real photos.

    faces = RenderedFaces(model, seed=3)                 # endless, random access, truth known
    photos = PhotoShards("shards/", part="train")        # aligned crops and their landmarks

This is the way in for users; each part lives in a module of its own.
"""

from .face_batch import FaceBatch
from .rendered_faces import RenderedFaces

__all__ = ["FaceBatch", "RenderedFaces"]

"""Importers of face models: what they share."""

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

Vertices = Float[np.ndarray, "vertex 3"]  # their places, mm, or their colours
Modes = Float[np.ndarray, "mode vertex 3"]
Faces = Int[np.ndarray, "face 3"]
Triangles = Int[Tensor, "face 3"]
Landmarks = Int[np.ndarray, " 68"]  # vertex numbers, iBUG order
Numbers = Int[np.ndarray, " vertex"]
PerVertex = Float[np.ndarray, " vertex"]
Mask = Bool[np.ndarray, " vertex"]

"""From coefficients to an image: rasterizer, renderer, and the whole of Eq. 1 to 3."""

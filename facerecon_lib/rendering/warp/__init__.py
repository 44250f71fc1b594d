"""The rasterizer's and the renderer's kernels, in NVIDIA Warp."""

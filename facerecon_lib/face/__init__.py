"""The face model and what surrounds it: coefficients, mesh, camera, light, measures."""

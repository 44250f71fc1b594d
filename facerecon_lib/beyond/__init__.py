"""Systems that the report cites, built on its parts: notebooks 11 to 13."""

"""What the whole tree shares: with --nbval, how notebooks run and what pictures are held to."""

pytest_plugins = ["notebook_runs"]

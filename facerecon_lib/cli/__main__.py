"""python -m facerecon_lib.cli, under torchrun for instance."""

from .app import main

if __name__ == "__main__":
    main()

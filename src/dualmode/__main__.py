"""``python -m dualmode`` is the command ``dualmode``."""

from dualmode.cli import main

if __name__ == "__main__":
    main()

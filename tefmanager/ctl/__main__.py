"""``python -m tefmanager.ctl``: the same as ``tefctl``."""

from tefmanager.ctl.main import main

if __name__ == "__main__":
    main()

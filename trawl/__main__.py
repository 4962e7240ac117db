"""`python -m trawl` is the same as `trawl`."""

from trawl.cli import main

if __name__ == "__main__":
    main()

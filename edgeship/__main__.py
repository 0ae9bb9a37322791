"""`python -m edgeship`: the same command line."""

from edgeship.cli import main

if __name__ == "__main__":
    main()

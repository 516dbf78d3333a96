"""`python -m rollforward` is the command line."""

from rollforward.cli.main import main

if __name__ == "__main__":
    main()

"""`python -m merino`."""

from merino.cli import main

if __name__ == "__main__":
    main()

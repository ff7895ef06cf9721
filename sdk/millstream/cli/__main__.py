"""`python -m millstream.cli`."""

from millstream.cli.root import main

if __name__ == "__main__":
    main()

"""`python -m millstream.cli`."""

from millstream.cli.front import main

if __name__ == "__main__":
    main()

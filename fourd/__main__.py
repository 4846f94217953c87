"""Run the command line: `python -m fourd`."""

from fourd.cli import main

if __name__ == "__main__":
    main()

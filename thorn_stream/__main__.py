"""`python -m thorn_stream`: the command line."""

from thorn_stream.cli import main

if __name__ == "__main__":
    main()

"""`python -m pipeline` is `corpusmill`."""

from pipeline.cli import main

if __name__ == "__main__":
    main()

"""`python -m mcis_cli`, the same as `mcis`."""

from mcis_cli.cli.start import main

if __name__ == "__main__":
    main()

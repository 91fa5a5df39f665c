"""`python -m abmonitor` is the command line."""

from abmonitor.cli.main import main


main()

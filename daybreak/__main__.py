"""`python -m daybreak`: the command line."""

from daybreak.cli import main

main()

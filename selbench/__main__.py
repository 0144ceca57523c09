"""`python -m selbench` is the command `selbench`."""

from selbench.commands.cli import main

main()

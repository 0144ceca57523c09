"""`python -m selbench` is the command `selbench`."""

from selbench.cli import main

main()

"""The commands of `selbench`, a module each: they read the command line, call, and print."""

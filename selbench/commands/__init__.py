"""The commands of `selbench`, one module each: they read the command line, call, and print."""

"""The `qdtrack` command: `main.py` finds the command, and each command is one module that is loaded only when it is used."""

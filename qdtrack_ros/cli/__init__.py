"""The `qdtrack` command: `main.py` finds the command; each is one module, loaded only when it is used."""

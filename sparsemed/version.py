"""The version, in a room of its own: nobody below has to import the front door."""

__version__ = "0.1.0"

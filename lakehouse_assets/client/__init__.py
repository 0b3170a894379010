"""The client: what the command line, notebooks, pages and services call. `open_lakehouse()` opens a root.

It puts the rooms of the platform together and returns values and frames; it prints nothing and knows no product. Nothing heavy is imported
before a method needs it: reading a table loads neither Dagster nor MLflow nor pandas.
"""

from lakehouse_assets.client.client import Client, open_lakehouse

__all__ = ["Client", "open_lakehouse"]

"""`python -m lakehouse_assets.cli` is `lakehouse`."""

from lakehouse_assets.cli.main import main

main(prog_name="lakehouse")

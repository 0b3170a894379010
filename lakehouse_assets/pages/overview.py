"""The first page: what is expected, what is wrong. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Overview")


@app.cell
def _():
    from lakehouse_assets.views import in_marimo, opened, overview

    lake = opened.lakehouse()
    in_marimo.head("Overview", overview.SENTENCE)
    return in_marimo, lake, overview


@app.cell
def _(in_marimo, lake, overview):
    in_marimo.shown(overview.page(lake))
    return


if __name__ == "__main__":
    app.run()

"""Table health. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Table health")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import health, in_marimo, opened

    lake = opened.lakehouse()
    in_marimo.head("Table health", health.SENTENCE)
    return health, in_marimo, lake, mo


@app.cell
def _(health, lake, mo):
    names = health.names(lake)
    table = mo.ui.dropdown(names, value=next(iter(names), None), label="Table")
    return names, table


@app.cell
def _(health, in_marimo, lake):
    in_marimo.shown(health.tables(lake))
    return


@app.cell
def _(names, table):
    table if names else None
    return


@app.cell
def _(health, in_marimo, lake, table):
    in_marimo.shown(health.one_table(lake, table.value)) if table.value else None
    return


if __name__ == "__main__":
    app.run()

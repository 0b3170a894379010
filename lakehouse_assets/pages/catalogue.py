"""The catalogue of tables and features. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Catalogue")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import catalogue, in_marimo, opened

    lake = opened.lakehouse()
    in_marimo.head("Catalogue", catalogue.SENTENCE)
    return catalogue, in_marimo, lake, mo


@app.cell
def _(catalogue, lake, mo):
    words = mo.ui.text(label="Search", placeholder="a table, a column, a word of its meaning")
    table = mo.ui.dropdown(catalogue.names(lake), value=None, label="Table", allow_select_none=True)
    mo.hstack([words, table], justify="start", gap=2, wrap=True)
    return table, words


@app.cell
def _(catalogue, in_marimo, lake, table, words):
    in_marimo.shown(catalogue.one_table(lake, table.value) if table.value else catalogue.search(lake, words.value))
    return


if __name__ == "__main__":
    app.run()

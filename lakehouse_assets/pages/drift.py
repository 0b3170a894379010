"""Drift over time. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Drift")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import drift, health, in_marimo, opened

    lake = opened.lakehouse()
    in_marimo.head("Drift", drift.SENTENCE)
    return drift, health, in_marimo, lake, mo


@app.cell
def _(drift, health, lake, mo):
    watched = drift.tables(lake)
    names = watched or health.names(lake)
    table = mo.ui.dropdown(names, value=watched[0] if watched else None, label="Table")
    metric = mo.ui.dropdown([*drift.METRICS], value=drift.TIMES, label="Metric")
    return metric, names, table, watched


@app.cell
def _(drift, lake, mo, names, metric, table, watched):
    column = mo.ui.dropdown(drift.columns(lake, table.value) if watched else [drift.ANY], value=drift.ANY, label="Column")
    mo.hstack([table, column, metric] if watched else [table], justify="start", gap=2, wrap=True) if names else None
    return (column,)


@app.cell
def _(column, drift, in_marimo, lake, metric, table, watched):
    if watched:
        blocks = drift.drift(lake, table.value, column.value, metric.value)
    else:
        blocks = [drift.nothing(), *(drift.profile(lake, table.value) if table.value else [])]
    in_marimo.shown(blocks)
    return


if __name__ == "__main__":
    app.run()

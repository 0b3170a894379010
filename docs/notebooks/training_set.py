"""From `open_lakehouse()` to a training set and a plot: `marimo edit docs/notebooks/training_set.py` opens it.

It takes the root that LAKEHOUSE_ROOT names, `data` by default, and the first model that its products declare.
"""

import marimo

app = marimo.App(width="medium", app_title="From a lakehouse to a training set")


@app.cell
def _():
    import altair as alt
    import marimo as mo
    import polars as pl

    from lakehouse_assets import open_lakehouse

    lake = open_lakehouse()
    mo.md(f"# From a lakehouse to a training set\n\n{len(lake.tables())} tables are in `{lake.settings.root}`.")
    return alt, lake, mo, pl


@app.cell
def _(lake, mo):
    # Every feature set, with its newest row: what models can learn from.
    sets = lake.features.list()
    mo.ui.table(sets, selection=None) if sets else mo.md("No feature set is declared.")
    return


@app.cell
def _(lake, mo):
    models = {one["model"]: one for one in lake.champions()}
    mo.stop(not models, mo.md("No model is declared."))
    model = mo.ui.dropdown([*models], value=next(iter(models)), label="Model")
    model
    return (model,)


@app.cell
def _(lake, mo, model):
    # For each label the features as they were known then: what came late or was revised since is left as it was.
    try:
        made = lake.features.training_set(model.value)
    except (ValueError, LookupError) as error:
        mo.stop(predicate=True, output=mo.md(f"There is no training set yet: {error}"))
    mo.md(
        f"{made.rows.height:,} rows and {len(made.rows.columns)} columns, of "
        + ", ".join(f"{table.name} (version {table.version})" for table in made.manifest.tables)
        + f". Digest `{made.manifest.digest[:12]}`."
    )
    return (made,)


@app.cell
def _(made, mo):
    # What gives the answer away, if anything does.
    findings = [finding.sentence for finding in made.leakage.findings]
    mo.md("\n".join(f"- {sentence}" for sentence in findings) or "Nothing gives the target away.")
    return


@app.cell
def _(made, mo, pl):
    numeric = [name for name, kind in made.rows.schema.items() if kind.is_numeric() and made.rows[name].n_unique() > 1]
    mo.stop(not numeric, mo.md("No column is a number."))
    column = mo.ui.dropdown(numeric, value=numeric[-1], label="Column")
    column
    return (column,)


@app.cell
def _(alt, column, made):
    chart = (
        alt.Chart(made.rows.select(column.value))
        .mark_bar()
        .encode(
            x=alt.X(f"{column.value}:Q", bin=alt.Bin(maxbins=40), title=column.value), y=alt.Y("count()", title="rows of the training set")
        )
        .properties(width="container", height=260)
    )
    chart
    return


if __name__ == "__main__":
    app.run()

"""Models with their ledgers and cards. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Models")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import in_marimo, models, opened

    lake = opened.lakehouse()
    in_marimo.head("Models", models.SENTENCE)
    return in_marimo, lake, mo, models


@app.cell
def _(in_marimo, lake, models):
    in_marimo.shown(models.champions(lake))
    return


@app.cell
def _(lake, mo, models):
    names = models.names(lake)
    model = mo.ui.dropdown(names, value=next(iter(names), None), label="Model")
    model if names else None
    return (model,)


@app.cell
def _(in_marimo, lake, model, models):
    in_marimo.shown(models.one_model(lake, model.value)) if model.value else None
    return


if __name__ == "__main__":
    app.run()

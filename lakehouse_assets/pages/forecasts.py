"""Forecasts against the actual values. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Forecasts")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import declared_models, forecasts, in_marimo, opened

    lake = opened.lakehouse()
    in_marimo.head("Forecasts", forecasts.SENTENCE)
    return forecasts, declared_models, in_marimo, lake, mo


@app.cell
def _(declared_models, lake, mo):
    declared = {one.predictions.model.name: one for one in declared_models.forecasts(lake)}
    model = mo.ui.dropdown([*declared], value=next(iter(declared), None), label="Model")
    return declared, model


@app.cell
def _(declared, forecasts, lake, mo, model):
    chosen = declared.get(model.value)
    days = {} if chosen is None else {str(day): day for day in forecasts.origins(lake, chosen)}
    names = [forecasts.ALL] if chosen is None else forecasts.groups(lake, chosen)
    group = mo.ui.dropdown(names, value=names[0], label="Group")
    origin = mo.ui.dropdown(days, value=next(iter(days), None), label="Forecast made after")
    mo.hstack([model, group, origin], justify="start", gap=2, wrap=True) if declared else None
    return chosen, group, origin


@app.cell
def _(chosen, forecasts, group, in_marimo, lake, origin):
    in_marimo.shown([forecasts.nothing()] if chosen is None else forecasts.forecast(lake, chosen, group.value, origin.value))
    return


if __name__ == "__main__":
    app.run()

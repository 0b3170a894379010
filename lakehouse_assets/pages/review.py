"""The review queue of a classifier. `marimo edit` opens this file as a notebook; `lakehouse dev` shows it as a page."""

import marimo

app = marimo.App(width="medium", app_title="Review queue")


@app.cell
def _():
    import marimo as mo

    from lakehouse_assets.views import declared_models, in_marimo, opened, review

    lake = opened.lakehouse()
    in_marimo.head("Review queue", review.SENTENCE)
    return declared_models, in_marimo, lake, mo, review


@app.cell
def _(declared_models, lake, mo):
    declared = {one.predictions.model.name: one for one in declared_models.classifiers(lake)}
    model = mo.ui.dropdown([*declared], value=next(iter(declared), None), label="Model")
    return declared, model


@app.cell
def _(declared, lake, mo, model, review):
    chosen = declared.get(model.value)
    urgent = review.ANY if chosen is None else review.most_urgent(lake, chosen)
    decision = mo.ui.dropdown([review.ANY] if chosen is None else review.decisions(lake, chosen), value=urgent, label="Decision")
    order = mo.ui.dropdown([review.NEWEST] if chosen is None else review.orders(chosen), value=review.NEWEST, label="Order")
    at_least = mo.ui.slider(0, 100, step=1, value=0, label="Probability of at least (%)", show_value=True, debounce=True)
    settled = mo.ui.checkbox(label="Also rows whose outcome is known")
    mo.hstack([model, decision, at_least, order, settled], justify="start", gap=2, wrap=True) if declared else None
    return at_least, chosen, decision, order, settled


@app.cell
def _(at_least, chosen, decision, in_marimo, lake, order, review, settled):
    if chosen is None:
        blocks = [review.nothing()]
    else:
        blocks = review.queue(lake, chosen, decision.value, at_least.value / 100, order.value, settled=settled.value)
    in_marimo.shown(blocks)
    return


if __name__ == "__main__":
    app.run()

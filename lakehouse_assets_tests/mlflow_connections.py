"""MLflow keeps connections to every database that this process has opened, also to one that was moved away."""

import sys


def forget_connections() -> None:
    """Close and forget them: the next call opens the file that is there then."""
    for of in ("tracking", "model_registry"):
        if (module := sys.modules.get(f"mlflow.store.{of}.sqlalchemy_store")) is not None:
            for engine in module.SqlAlchemyStore._engine_map.values():
                engine.dispose()
            module.SqlAlchemyStore._engine_map.clear()

"""Products that benchmarks run in a root of their own: `LAKEHOUSE_PRODUCTS=benchmarks.products`."""

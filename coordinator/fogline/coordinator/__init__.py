"""The coordinator: splits pipelines, places their segments and follows them; `coord` is its client."""

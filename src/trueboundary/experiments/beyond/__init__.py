"""Beyond the papers: their questions where they did not ask them, one module per experiment."""

TITLE = "Beyond the papers"

#: The modules that define an ``EXPERIMENT``, in the order of the report.
MODULES: tuple[str, ...] = ("beyond_ten_digits",)

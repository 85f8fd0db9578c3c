"""A framework whose model is a table: a JSON object that says what to answer for which value."""

from __future__ import annotations

import json
from typing import Any

from fogline.runtimes.errors import BadMessage
from fogline.runtimes.frameworks import rows
from fogline.runtimes.frameworks.base import Failed, Framework, Result
from fogline.runtimes.plugins import Option, Plugin

PLUGIN = Plugin(
    implementation="fogline_lookup:Lookup",
    options=(
        Option("path", "string", "JSON file of the table, relative to the document.", "./limits.json", required=True),
        Option("input", "string", "Field that is looked up.", "machine", required=True),
        Option("output", "string", "Field under which the answer is added to the record.", "limit"),
        Option("missing", "string", "What is answered for a value that the table does not have.", "unknown"),
    ),
    requirements=("fogline-lookup>=1.0",),
)


class Lookup(Framework):
    """Answers what the table holds for the record's field. A heavy library would be imported in `load`."""

    def load(self) -> None:
        try:
            self._table: dict[str, Any] = dict(json.loads(self.model_file.read_text()))
        except ValueError as error:
            raise self.unusable(f"{self.path.name} is not a table: {error}") from error
        self._read = rows.reader(self.stage.options["input"], ())

    def process(self, records: list[Any]) -> list[Result]:
        answers = [self._answer(record) for record in records]
        return rows.place(records, answers, self.stage.options.get("output"))

    def _answer(self, record: Any) -> Any:
        try:
            value = str(self._read(record))
        except BadMessage as error:
            return Failed(error)
        missing = self.stage.options.get("missing")
        if value not in self._table and missing is None:
            return Failed(BadMessage(f"the table has no {value!r}"))
        return self._table.get(value, missing)

"""`--example`: files with example requests, read as `predict --input` reads its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gateway.client.upload import Upload
    from gateway.protocol.messages import admin
    from registry.examples import Example

ExampleOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--example",
        metavar="FILE",
        help="A request that the model must answer (.npz or .npy or JSON); may be repeated. It is tried and warmed up with it.",
    ),
]


def read_examples(files: Sequence[Path] | None, upload: Upload) -> list[admin.Example]:
    """Reads the examples in files and fits them to the uploaded model. Raises CommandError that names the file or the input."""
    if not files:
        return []
    from gateway.cli.tensor_input import read_inputs
    from gateway.client.inference import ModelInfo, TensorInfo
    from gateway.client.upload import example_message
    from registry.onnx_file import read_model

    signature = read_model(upload.root / upload.model_file, follows_links=True).signature
    inputs = tuple(TensorInfo(spec.name, spec.datatype, spec.shape) for spec in signature.inputs)
    info = ModelInfo(upload.model_file, (), "", inputs, ())
    datatypes = {spec.name: spec.datatype for spec in inputs}
    return [
        example_message(read_inputs(file.read_bytes(), info, str(file)), datatypes=datatypes, name=file.name) for file in files
    ]


def example_values(messages: Sequence[admin.Example]) -> tuple[Example, ...]:
    """Reads them for a trial in this process. Raises InvalidValue for more than a version may have."""
    from registry.examples import Example, ExampleTensor, check_bounds

    values = tuple(
        Example(tuple(ExampleTensor(t.name, t.datatype, tuple(t.shape), t.contents) for t in one.inputs), one.name)
        for one in messages
    )
    check_bounds(values)
    return values

"""ONNX Runtime behind the session protocol. The only importer of onnxruntime."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

# Since 1.32 its wheels report usage to their maker unless told otherwise before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

from gateway.runtime.halt import Halt
from gateway.runtime.runtime_text import caller_text, folders_of
from gateway.runtime.session import Array, InputsRefused, LoadRefused, RunFailed, RunStopped
from gateway.runtime.watchdog import Watchdog
from registry.signature import Signature, TensorSpec

_DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "bfloat16": "BF16", "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
_WATCHDOG = Watchdog()
_BFLOAT16 = 16  # TensorProto.BFLOAT16
# One arena for all sessions: between two nodes a process needs what its busiest runs hold, and not the most that each of its
# versions ever held. Its first region is an address range until it is used; large, so that it is cut up, not added to.
_ARENA = {"arena_extend_strategy": 0, "initial_chunk_size_bytes": 16 << 20}  # 0: a next region is twice as large
_SHRINK = ("memory.enable_memory_arena_shrinkage", "cpu:0")  # after the run: regions that are free go, but for the first
# y = Identity(x), BOOL[n]
_IDENTITY = (
    b'\x08\x08:9\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x10\n\x01x\x12\x0b\n'
    b"\t\x08\t\x12\x05\n\x03\x12\x01nb\x10\n\x01y\x12\x0b\n\t\x08\t\x12\x05\n\x03\x12\x01nB\x04\n\x00\x10\r"
)
_first = threading.Lock()
NO_CONFIG: Mapping[str, str] = MappingProxyType({})


class OnnxSession:
    """
    A model in ONNX Runtime on the CPU. ``threads`` bounds intra-op parallelism (1: the calling thread alone); nothing
    spins, since a spinning pool starves its neighbours. ``config`` are entries of ONNX Runtime's session configuration.
    """

    def __init__(self, path: Path, *, threads: int = 1, config: Mapping[str, str] = NO_CONFIG) -> None:
        self._folders = folders_of(path)
        session = _opened(path, _options(threads, config), self._folders)
        if any(str(node.type).startswith("seq(map(") for node in session.get_outputs()):
            del session  # else a large model would be in memory twice
            session = _with_scores(path, threads, config)
        self.signature = _signature(session)
        # The binding below the Python wrapper: the wrapper checks again what the request path has checked.
        self._session: Any = session._sess
        specs = (*self.signature.inputs, *self.signature.outputs)
        self._has_bfloat16 = any(spec.datatype == "BF16" for spec in specs)
        self._bfloat16_inputs = frozenset(spec.name for spec in self.signature.inputs if spec.datatype == "BF16")

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, Array], until: float | None = None, halt: Halt | None = None
    ) -> list[Array]:
        if until is None and halt is None:
            return self._run(outputs, inputs, None)
        options = ort.RunOptions()

        def stop() -> None:
            options.terminate = True

        if halt is not None:
            halt.bind(stop)
        try:
            if until is None:
                return self._run(outputs, inputs, options)
            with _WATCHDOG.watching(until, stop):
                return self._run(outputs, inputs, options)
        except RunFailed:
            if options.terminate:
                raise RunStopped("the run was stopped: nobody waits for it any more") from None
            raise

    def _run(self, outputs: Sequence[str], inputs: Mapping[str, Array], options: Any) -> list[Array]:
        try:
            if self._has_bfloat16:
                return self._run_values(outputs, inputs, options)
            results: list[Array] = self._session.run(outputs, inputs, options)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes here
            refused = InputsRefused if type(error).__name__ == "InvalidArgument" else RunFailed
            raise refused(caller_text(str(error), self._folders)) from None
        return results

    def _run_values(self, outputs: Sequence[str], inputs: Mapping[str, Array], options: Any) -> list[Array]:
        """The same through OrtValues: numpy has no bfloat16, so its bits travel as uint16."""
        values = {name: _value(array, is_bfloat16=name in self._bfloat16_inputs) for name, array in inputs.items()}
        results = self._session.run_with_ort_values(values, list(outputs), options)
        return [_array(value) for value in results]

    def close(self) -> None:
        self._session = None
        options = ort.RunOptions()
        options.add_run_config_entry(*_SHRINK)
        _identity().run(["y"], {"x": np.empty(0, np.bool_)}, options)  # needs no memory itself


class ObservingSession:
    """
    A model, given as the bytes of its ONNX file, that runs exactly as it is written, so that every tensor can be an output.
    ``names`` are the outputs that are tensors. Its external data lies in ``folder``. Raises LoadRefused.
    """

    def __init__(self, content: bytes, folder: Path) -> None:
        options = _options(1, {"session.model_external_initializers_file_folder_path": str(folder)})
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._folders = folders_of(folder / "model.onnx")
        self._session: Any = _opened(content, options, self._folders)._sess
        outputs = {str(node.name): str(node.type) for node in self._session.outputs_meta}
        self.names = tuple(name for name, kind in outputs.items() if kind.startswith("tensor("))
        inputs = (*self._session.inputs_meta, *self._session.overridable_initializers)
        kinds = outputs | {str(node.name): str(node.type) for node in inputs}
        self._bfloat16 = frozenset(name for name, kind in kinds.items() if kind == "tensor(bfloat16)")

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """Returns the named tensors for these inputs; bfloat16 as uint16. Raises RunFailed."""
        try:
            if self._bfloat16.isdisjoint((*outputs, *inputs)):
                results: list[Array] = self._session.run(outputs, inputs, None)
                return results
            values = {name: _value(array, is_bfloat16=name in self._bfloat16) for name, array in inputs.items()}
            return [_array(value) for value in self._session.run_with_ort_values(values, list(outputs), None)]
        except Exception as error:  # onnxruntime raises a dozen unrelated classes here
            raise RunFailed(caller_text(str(error), self._folders)) from None


def save_optimized(path: Path, target: Path, *, is_packed: bool) -> None:
    """
    Writes the model, optimized and, if ``is_packed``, with its weights packed for this machine's processor and this ONNX
    Runtime, to ``target``, the weights in ``weights.bin`` beside it. Raises LoadRefused.
    """
    packing = "session.save_external_prepacked_constant_initializers" if is_packed else "session.disable_prepacking"
    options = _options(1, {
        packing: "1",
        "session.optimized_model_external_initializers_file_name": "weights.bin",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    })  # fmt: skip
    options.optimized_model_filepath = str(target)
    _opened(path, options, folders_of(path))


def _options(threads: int, config: Mapping[str, str]) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # What is packed at load would else go through the arena, which grows by doubling and keeps what it once took.
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    return options


def _with_scores(path: Path, threads: int, config: Mapping[str, str]) -> Any:
    """Returns a session of the model with tensors of scores in place of its score maps."""
    from registry.zip_maps import with_scores  # imports onnx, which few models need

    content = with_scores(path)
    if content is None:
        return _opened(path, _options(threads, config), folders_of(path))
    folder = {"session.model_external_initializers_file_folder_path": str(path.parent)}
    return _opened(content, _options(threads, {**config, **folder}), folders_of(path))


@functools.cache
def _identity() -> Any:
    """Makes a session in the shared arena, which creates the arena and its first region."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg(_ARENA))
    session = ort.InferenceSession(_IDENTITY, _options(1, NO_CONFIG), providers=["CPUExecutionProvider"])
    session.run(["y"], {"x": np.ones(1, np.bool_)})
    return session


def _opened(model: Path | bytes, options: Any, folders: Sequence[str] = ()) -> Any:
    """Opens a model, of whose ``folders`` callers are not told."""
    with _first:  # two at once would make the arena twice
        _identity()
    try:
        return ort.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises a dozen unrelated classes here
        raise LoadRefused(caller_text(str(error), folders)) from None


def _value(array: Array, *, is_bfloat16: bool) -> Any:
    if is_bfloat16:
        value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), _BFLOAT16)
    else:
        value = ort.OrtValue.ortvalue_from_numpy(array)
    return value._get_c_value()


def _array(value: Any) -> Array:
    if value.element_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    size = 2 * int(np.prod(shape, dtype=np.int64))
    bits = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(bits, np.uint16).reshape(shape)


def _signature(session: Any) -> Signature:
    optional = [_spec(node, is_optional=True) for node in session.get_overridable_initializers()]
    return Signature(
        inputs=(*(_spec(node) for node in session.get_inputs()), *optional),
        outputs=tuple(_spec(node) for node in session.get_outputs()),
    )


def _spec(node: Any, *, is_optional: bool = False) -> TensorSpec:
    element = str(node.type).removeprefix("tensor(").removesuffix(")")
    datatype = _DATATYPES.get(element)
    if not str(node.type).startswith("tensor(") or datatype is None:
        raise LoadRefused(f"{node.name!r} is {node.type}, for which the inference protocol has no form")
    shape = tuple(dim if isinstance(dim, int) and dim >= 0 else -1 for dim in node.shape)
    return TensorSpec(str(node.name), datatype, shape, is_optional)

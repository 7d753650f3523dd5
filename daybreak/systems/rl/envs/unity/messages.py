"""The messages between Python and a Unity ML-Agents player, from the public .proto files of its communicator.

Field numbers and types are what two sides must share; they are written here as data and built when first used, so
that no generated code and no `mlagents` package is needed, and any current protobuf works. Enums are whole numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

PACKAGE = "communicator_objects"
SERVICE, METHOD = f"{PACKAGE}.UnityToExternalProto", "Exchange"
VERSION = "1.5.0"
"""Of the protocol: with hybrid actions, observations of variable length and groups of agents."""

STEP, RESET = 0, 1
"""Commands of UnityRLInputProto."""
OK, QUIT = 200, 400
"""Statuses of HeaderProto."""
PNG = 1
"""Compression of ObservationProto; 0 is none."""

MESSAGES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "HeaderProto": (("status", "int32", 1), ("message", "string", 2)),
    "FloatData": (("data", "repeated float", 1),),
    "ObservationProto": (
        ("shape", "repeated int32", 1),
        ("compression_type", "int32", 2),
        ("compressed_data", "bytes", 3),
        ("float_data", "FloatData", 4),
        ("compressed_channel_mapping", "repeated int32", 5),
        ("dimension_properties", "repeated int32", 6),
        ("observation_type", "int32", 7),
    ),
    "AgentInfoProto": (
        ("reward", "float", 7),
        ("done", "bool", 8),
        ("max_step_reached", "bool", 9),
        ("id", "int32", 10),
        ("action_mask", "repeated bool", 11),
        ("observations", "repeated ObservationProto", 13),
        ("group_id", "int32", 14),
        ("group_reward", "float", 15),
    ),
    "ListAgentInfoProto": (("value", "repeated AgentInfoProto", 1),),
    "AgentActionProto": (
        ("vector_actions_deprecated", "repeated float", 1),
        ("value", "float", 4),
        ("continuous_actions", "repeated float", 6),
        ("discrete_actions", "repeated int32", 7),
    ),
    "ListAgentActionProto": (("value", "repeated AgentActionProto", 1),),
    "ActionSpecProto": (
        ("num_continuous_actions", "int32", 1),
        ("num_discrete_actions", "int32", 2),
        ("discrete_branch_sizes", "repeated int32", 3),
        ("action_descriptions", "repeated string", 4),
    ),
    "BrainParametersProto": (
        ("vector_action_size_deprecated", "repeated int32", 3),
        ("vector_action_descriptions_deprecated", "repeated string", 5),
        ("vector_action_space_type_deprecated", "int32", 6),
        ("brain_name", "string", 7),
        ("is_training", "bool", 8),
        ("action_spec", "ActionSpecProto", 9),
    ),
    "UnityRLCapabilitiesProto": (
        ("baseRLCapabilities", "bool", 1),
        ("concatenatedPngObservations", "bool", 2),
        ("compressedChannelMapping", "bool", 3),
        ("hybridActions", "bool", 4),
        ("trainingAnalytics", "bool", 5),
        ("variableLengthObservation", "bool", 6),
        ("multiAgentGroups", "bool", 7),
    ),
    "UnityRLInitializationInputProto": (
        ("seed", "int32", 1),
        ("communication_version", "string", 2),
        ("package_version", "string", 3),
        ("capabilities", "UnityRLCapabilitiesProto", 4),
        ("num_areas", "int32", 5),
    ),
    "UnityRLInitializationOutputProto": (
        ("name", "string", 1),
        ("communication_version", "string", 2),
        ("log_path", "string", 3),
        ("brain_parameters", "repeated BrainParametersProto", 5),
        ("package_version", "string", 7),
        ("capabilities", "UnityRLCapabilitiesProto", 8),
    ),
    "UnityRLInputProto": (
        ("agent_actions", "map ListAgentActionProto", 1),
        ("command", "int32", 4),
        ("side_channel", "bytes", 5),
    ),
    "UnityRLOutputProto": (("agentInfos", "map ListAgentInfoProto", 2), ("side_channel", "bytes", 3)),
    "UnityInputProto": (
        ("rl_input", "UnityRLInputProto", 1),
        ("rl_initialization_input", "UnityRLInitializationInputProto", 2),
    ),
    "UnityOutputProto": (
        ("rl_output", "UnityRLOutputProto", 1),
        ("rl_initialization_output", "UnityRLInitializationOutputProto", 2),
    ),
    "UnityMessageProto": (
        ("header", "HeaderProto", 1),
        ("unity_output", "UnityOutputProto", 2),
        ("unity_input", "UnityInputProto", 3),
    ),
}
"""Message -> its fields: name, type, number. A "map" has strings for keys."""


@cache
def message(name: str) -> Any:
    """The class of a message. Raises ModuleNotFoundError where protobuf is missing."""
    from google.protobuf.message_factory import GetMessageClass

    return GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    """A pool of our own: an installed `mlagents` may hold messages of the same names."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool

    types = {
        "float": FieldDescriptorProto.TYPE_FLOAT,
        "int32": FieldDescriptorProto.TYPE_INT32,
        "bool": FieldDescriptorProto.TYPE_BOOL,
        "string": FieldDescriptorProto.TYPE_STRING,
        "bytes": FieldDescriptorProto.TYPE_BYTES,
    }
    file = FileDescriptorProto(name="daybreak/unity.proto", package=PACKAGE, syntax="proto3")

    def add(parent: Any, field: str, kind: str, number: int, label: int) -> None:
        known = types.get(kind, FieldDescriptorProto.TYPE_MESSAGE)
        made = parent.field.add(name=field, number=number, label=label, type=known)
        if kind not in types:
            made.type_name = f".{PACKAGE}.{kind}"

    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    for name, fields in MESSAGES.items():
        parent = file.message_type.add(name=name)
        for field, kind, number in fields:
            shape, _, inner = kind.rpartition(" ")
            if shape == "map":
                entry = "".join(part[:1].upper() + part[1:] for part in field.split("_")) + "Entry"
                nested = parent.nested_type.add(name=entry)
                nested.options.map_entry = True
                add(nested, "key", "string", 1, one)
                add(nested, "value", inner, 2, one)
                inner = f"{name}.{entry}"
            add(parent, field, inner, number, many if shape else one)
    pool = DescriptorPool()
    pool.Add(file)
    return pool

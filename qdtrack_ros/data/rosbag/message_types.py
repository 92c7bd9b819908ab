"""Definitions of messages, and messages as objects."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from qdtrack_ros.data.message_definitions import find_definition
from qdtrack_ros.data.types import DataError

logger = logging.getLogger(__name__)


class MessageTypes:
    """Message definitions: those of ROS 2, the given ones, and those found where packages install theirs.

    Args:
        definitions: text of .msg files by type, e.g. ``{"my_msgs/msg/Thing": "uint8 x"}``; they come first.
    """

    def __init__(self, definitions: Mapping[str, str] | None = None) -> None:
        self.store = get_typestore(Stores.ROS2_KILTED)
        self._definitions = dict(definitions or {})

    def ensure(self, type_name: str) -> None:
        """Make a type and all that it is made of known.

        Raises:
            DataError: its definition is found nowhere, or cannot be parsed.
        """
        if type_name in self.store.fielddefs:
            return
        text = self._definitions.get(type_name)
        if text is None:
            text = find_definition(type_name)
        try:
            found = get_types_from_msg(text, type_name)
            for _, fields in found.values():
                for _, description in fields:
                    for needed in _named_types(description):
                        if needed not in found:
                            self.ensure(needed)
            self.store.register({name: value for name, value in found.items() if name not in self.store.fielddefs})
        except DataError:
            raise
        except Exception as error:  # the parser's own kinds are not published
            raise DataError(f"the definition of {type_name} cannot be parsed: {error}") from error

    def add_from_bag(self, connection: Connection) -> None:
        """Take up a definition that the bag itself carries; it is left to ``ensure`` when that one cannot be parsed."""
        text = connection.msgdef.data
        is_given = bool(text.strip()) and connection.msgdef.format is not MessageDefinitionFormat.NONE
        if connection.msgtype in self.store.fielddefs or not is_given:
            return
        parse = get_types_from_msg if connection.msgdef.format is MessageDefinitionFormat.MSG else None
        try:
            found = parse(text, connection.msgtype) if parse else get_types_from_idl(text)
            self.store.register({name: value for name, value in found.items() if name not in self.store.fielddefs})
        except Exception as error:
            logger.warning("the bag's definition of %s cannot be parsed: %s", connection.msgtype, error)

    def new(self, type_name: str, **fields: Any) -> Any:
        """A message object of the type; all fields must be given, arrays of numbers as numpy arrays."""
        self.ensure(type_name)
        return self.store.types[type_name](**fields)

    def deserialize(self, data: bytes, type_name: str) -> Any:
        """Message object of CDR bytes; ``DataError`` when they are damaged."""
        self.ensure(type_name)
        try:
            return self.store.deserialize_cdr(data, type_name)
        except Exception as error:
            raise DataError(f"a message of {len(data)} bytes is not a {type_name}: {error}") from error


def _named_types(description: Any) -> Iterator[str]:
    """Message types in a field description of rosbags: (kind, name or element description, ...)."""
    for part in description:
        if isinstance(part, tuple):
            yield from _named_types(part)
        elif isinstance(part, str) and "/msg/" in part:
            yield part

"""Tuning data: conversations that end in an answer."""

from aftertune.data.conversations import Conversation, Message, TuningData
from aftertune.data.load import load_conversations

__all__ = ["Conversation", "Message", "TuningData", "load_conversations"]

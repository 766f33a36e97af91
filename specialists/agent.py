"""A LangChain agent on an OpenAI-compatible endpoint: works until the answer is filled in, or says why."""

from __future__ import annotations

import json
import logging
from traceback import format_exception
from typing import Any

import httpx
import openai
from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain.agents.middleware.model_call_limit import ModelCallLimitExceededError
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError

from specialists.answers import Answer, parsed
from specialists.errors import ModelError
from specialists.settings import Cloud

log = logging.getLogger(__name__)

SPARE_TURNS = 4  # for correcting an answer that did not fit the form

BAD_ANSWER = (json.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError)


async def ask(settings: Cloud, prompt: str, question: str, tools: list[StructuredTool]) -> tuple[Answer, str]:
    """The model's answer and its name; ModelError says what went wrong, never with the key in it."""
    async with httpx.AsyncClient(timeout=settings.timeout, follow_redirects=False) as http:
        try:
            state = await _agent(settings, prompt, tools, http).ainvoke(
                {"messages": [{"role": "user", "content": question}]},
                {"recursion_limit": 4 * (settings.max_tool_calls + SPARE_TURNS)},
            )
        except (openai.OpenAIError, ModelCallLimitExceededError, GraphRecursionError, *BAD_ANSWER) as error:
            log.debug("the agent stopped: %s", _without_key("".join(format_exception(error)), settings))
            raise ModelError(_told(settings, _why(error, settings))) from None
    said = [message for message in state["messages"] if isinstance(message, AIMessage)]
    name = str(said[-1].response_metadata.get("model_name") or settings.model) if said else settings.model
    answer = state.get("structured_response") or (parsed(said[-1].text) if said else None)
    if answer is None:
        cut = said and said[-1].response_metadata.get("finish_reason") == "length"
        raise ModelError(
            _told(settings, "its answer was cut off: too long" if cut else "it did not fill in the answer")
        )
    return answer, name


def _agent(settings: Cloud, prompt: str, tools: list[StructuredTool], http: httpx.AsyncClient) -> Any:
    model = ChatOpenAI(
        model=settings.model,
        base_url=settings.base_url,
        api_key=settings.key(),
        use_responses_api=False,
        timeout=settings.timeout,
        max_retries=settings.retries,
        http_async_client=http,
    )
    limit = ModelCallLimitMiddleware(run_limit=settings.max_tool_calls + SPARE_TURNS, exit_behavior="error")
    return create_agent(
        model, tools, system_prompt=prompt, middleware=[limit], response_format=ToolStrategy(Answer)
    )


def _why(error: Exception, settings: Cloud) -> str:
    """What went wrong, in words; a server's own words are cut and the key is taken out of them."""
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        return f"it refused the key (HTTP {error.status_code}); put a valid one in {settings.api_key_env}"
    if isinstance(error, openai.APITimeoutError):
        return f"no answer within {settings.timeout:g} s, tried {settings.retries + 1} times; raise timeout"
    if isinstance(error, openai.APIConnectionError):
        return "cannot connect; see that it runs and that base_url is right"
    if isinstance(error, openai.RateLimitError):
        return "it is busy or the quota is used up (HTTP 429); wait, or raise retries"
    if isinstance(error, openai.APIStatusError):
        return f"it answered HTTP {error.status_code}: {_safe(error.message, settings)}"
    if isinstance(error, ModelCallLimitExceededError | GraphRecursionError):
        return (
            f"it did not come to an answer within {settings.max_tool_calls} tool calls; raise max_tool_calls"
        )
    return f"its answer cannot be read ({type(error).__name__}: {_safe(str(error), settings)})"


def _safe(words: str, settings: Cloud) -> str:
    return _without_key(words, settings)[:300]


def _without_key(words: str, settings: Cloud) -> str:
    key = settings.key().get_secret_value()
    return words.replace(key, "***") if len(key) > 4 else words


def _told(settings: Cloud, why: str) -> str:
    return f"model {settings.model} at {settings.base_url}: {why}"

"""The answers of what lets somebody in: a login, and a link for a browser."""

from __future__ import annotations

from pydantic import Field

from client.api.answers import Count, Open, Text


class LoginPlace(Open):
    """What a credential is made for."""

    deployment: Text = Field(description="Id of the deployment.")
    owner: Count = Field(description="Number of the user who alone is to decode it (uid).")


class LoggedIn(Open):
    """A token of one's own."""

    token: Text = Field(description="It is kept nowhere here, and valid from now on.")
    name: Text = Field(description="By which its requests are counted.")
    expires: float = Field(description="Until when it is valid, as Unix time.")
    queries: bool = Field(
        description="Whether the deployment answers queries; else it measures a server alone."
    )
    ollama: bool = Field(description="Whether it answers Ollama's own API, too.")


class Link(Open):
    """A link that lets one browser in, once."""

    path: Text = Field(description="What to open at the deployment's address.")
    expires: float = Field(description="Until when it can be opened, as Unix time.")

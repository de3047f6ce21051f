"""The steps of a greeting as functions: what is asked, who asks it, where it begins."""

import time
from typing import Any

import pytest

from hub.greeting import (
    Admitted,
    Asked,
    Begin,
    Credential,
    admit,
    begin,
    read_request,
    refused_by_statement,
    renew,
    request_id_of,
)
from hub.refusals import Refusal
from shared.protocol.frames import Reset
from shared.protocol.position import Position
from shared.protocol.resume import Implausible, LogLossSuspected
from shared.store.cursors import Greeted, Verdict
from tests.hub.conftest import TICKETS, TOKENS, ticket, token

OFFERED = ["fleetwire.v1"]
TRUCK = Asked("truck-7", None, None, 0, None)


def read(query: str) -> Asked | Refusal:
    return read_request(f"/v1/socket?{query}", method="GET", upgrade="websocket", offered=OFFERED)


def test_a_full_query_is_read() -> None:
    assert read(
        "device_id=truck-7&after=3:41&instance=0B8A3E3C-7A0A-4A53-9F58-111111111111&attempt=7&hub=hub-2&later=x"
    ) == Asked("truck-7", Position(3, 41), "0b8a3e3c-7a0a-4a53-9f58-111111111111", 7, "hub-2")


def test_a_bare_client_says_only_who_it_is() -> None:
    assert read("device_id=truck-7") == TRUCK


def test_a_query_of_countless_parameters_is_refused() -> None:
    refused = read("device_id=truck-7" + "".join(f"&p{n}=" for n in range(50)))
    assert isinstance(refused, Refusal)
    assert refused.status == 400


def admitted(bearer: str, *, asked: Asked = TRUCK, offered: list[str] | None = None) -> Admitted | Refusal:
    return admit(
        asked,
        authorization=[f"Bearer {bearer}"] if bearer else [],
        offered=offered or OFFERED,
        tokens=TOKENS,
        tickets=TICKETS,
        now=time.time(),
    )


def test_a_token_and_a_ticket_admit_alike_and_only_the_ticket_is_spent() -> None:
    by_token, by_ticket = admitted(token("truck-7", device_class="van")), admitted(ticket("truck-7", jti="abcdefgh"))
    assert isinstance(by_token, Admitted)
    assert isinstance(by_ticket, Admitted)
    assert (by_token.credential.ticket_id, by_token.credential.device_class) == (None, "van")
    assert by_ticket.credential.ticket_id == "abcdefgh"
    assert by_ticket.credential.scopes == {"device"}


@pytest.mark.parametrize("device_class", ["", "Van", "van\x00", "\ud800", "v" * 33])
def test_a_token_that_names_an_illegal_class_admits_nobody(device_class: str) -> None:
    by_ticket = TICKETS.mint_ticket(
        subject="truck-7", token_id="abcdefgh", now=time.time(), lifetime_s=60,
        session_expires_at=time.time() + 60, device_class=device_class,
    )  # fmt: skip
    for refused in (admitted(token("truck-7", device_class=device_class)), admitted(by_ticket)):
        assert isinstance(refused, Refusal)
        assert (refused.status, refused.reason) == (401, "bad_claims")


def test_a_bearer_token_is_no_ticket_subprotocol() -> None:
    refused = admitted("", offered=[*OFFERED, f"ticket.{token('truck-7')}"])
    assert isinstance(refused, Refusal)
    assert refused.status == 401


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (None, Begin(Position(2, 5), None)),
        (Position(2, 3), Begin(Position(2, 3), None)),
        (Position(2, 10), Begin(Position(2, 10), None)),
        (Position(2, 2), Begin(Position(2, 3), Reset("2:3", "retention"))),
        (Position(1, 9), Begin(Position(2, 5), Reset("2:5", "epoch"))),
        (Position(2, 11), LogLossSuspected(2)),
        (Position(3, 1), LogLossSuspected(3)),
        (Position(5000, 1), Implausible()),
    ],
)
def test_each_row_of_the_resume_table(after: Position | None, expected: object) -> None:
    assert begin(after, epoch=2, floor=3, head=10, acked=5) == expected


def test_a_device_that_names_nothing_is_told_when_what_it_had_not_acked_is_gone() -> None:
    assert begin(None, epoch=1, floor=6, head=9, acked=2) == Begin(Position(1, 6), Reset("1:6", "retention"))


def test_after_a_raise_for_its_sake_a_device_is_told_of_log_loss() -> None:
    assert begin(Position(1, 11), epoch=2, floor=0, head=10, acked=5, log_loss=True) == Begin(
        Position(2, 5), Reset("2:5", "log_loss")
    )


def test_a_credential_is_renewed_by_the_same_subject_without_a_wider_scope() -> None:
    current = Credential("truck-7", frozenset({"device"}), None, 0.0, "k")
    now = time.time()
    keys: Any = {"tokens": TOKENS, "tickets": TICKETS, "now": now}
    assert isinstance(renew(current, token("truck-7"), **keys), Credential)
    for refused in (token("truck-8"), token("truck-7", scope="device service"), token("truck-7", scope="service"), "x"):
        assert isinstance(renew(current, refused, **keys), str)
    # A device that came with a ticket does not show its token to hubs: it brings another ticket.
    assert isinstance(renew(current, ticket("truck-7"), **keys), Credential)
    assert isinstance(renew(current, ticket("truck-8"), **keys), str)


def test_only_harmless_request_ids_are_taken_over() -> None:
    assert request_id_of("abc-1", "fresh") == "abc-1"
    for given in (None, "", "a b", "x" * 65, "a\nb"):
        assert request_id_of(given, "fresh") == "fresh"


@pytest.mark.parametrize(
    ("verdict", "status"),
    [("ok", None), ("ticket_used", 401), ("older_attempt", 409), ("unknown_device", 503), ("revoked", 401)],
)
def test_every_verdict_of_the_greeting_statement_has_an_answer(verdict: Verdict, status: int | None) -> None:
    refusal = refused_by_statement(Greeted(verdict))
    assert (None if refusal is None else refusal.status) == status

import asyncio
import threading

import pytest

from device.credential import Credential
from device.errors import ConfigurationError, TokenRefused, Unreachable


async def test_a_fixed_token_cannot_be_renewed() -> None:
    credential = Credential("abc", deadline_s=1.0)
    assert await credential.token() == "abc"
    assert not credential.renewable
    with pytest.raises(TokenRefused):
        await credential.renewed("abc")


async def test_many_that_find_it_refused_ask_once() -> None:
    asked = 0

    async def source() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return f"token-{asked}"

    credential = Credential(source, deadline_s=1.0)
    assert await credential.token() == "token-1"
    assert set(await asyncio.gather(*(credential.renewed("token-1") for _ in range(9)))) == {"token-2"}
    assert asked == 2


async def test_a_sync_callback_does_not_hold_up_the_loop() -> None:
    released = threading.Event()

    def source() -> str:
        assert released.wait(5)
        return "token"

    asking = asyncio.create_task(Credential(source, deadline_s=5.0).token())
    await asyncio.sleep(0)
    released.set()
    assert await asking == "token"


@pytest.mark.parametrize("answer", ["", "two words", "new\nline", "x" * 9000, None, b"bytes", "ünicode"])
async def test_an_answer_that_is_no_token_is_a_failed_try(answer: object) -> None:
    with pytest.raises(Unreachable, match="token callback failed"):
        await Credential(lambda: answer, deadline_s=1.0).token()  # type: ignore[arg-type,return-value]


async def test_a_callback_has_a_deadline() -> None:
    async def source() -> str:
        await asyncio.Event().wait()
        return "never"

    with pytest.raises(Unreachable, match="TimeoutError"):
        await Credential(source, deadline_s=0.01).token()


def test_a_token_with_its_scheme_is_named_and_never_shown() -> None:
    with pytest.raises(ConfigurationError, match="without 'Bearer'"):
        Credential("Bearer secret-token", deadline_s=1.0)
    assert "secret" not in repr(Credential("secret", deadline_s=1.0))

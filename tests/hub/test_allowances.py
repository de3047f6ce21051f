"""What the settings become for each link."""

from hub.allowances import allowances_of
from hub.link_profile import LinkProfile, profile_of
from hub.settings import Settings
from shared.settings import load
from tests.hub.conftest import environment


def settings(**changes: str) -> Settings:
    return load(Settings, environment("hub-1", "postgresql://db/x", "redis://bus", changes))


def test_good_links_share_what_was_made_for_them() -> None:
    allowed = allowances_of(settings())
    profile = profile_of(allowed.good_link, rtt_s=0.02, flaps=1.0)
    assert allowed.window_of(profile) is allowed.window
    assert allowed.pulse_of(profile) is allowed.pulse


def test_a_worse_link_gets_its_own_and_leaves_the_others_theirs() -> None:
    allowed = allowances_of(settings())
    before = allowed.window.first_bytes
    window = allowed.window_of(LinkProfile(0.5, 0.9, 16 * 1024))
    pulse = allowed.pulse_of(LinkProfile(0.5, 0.9, 16 * 1024))
    assert (window.first_bytes, window.max_bytes) == (16 * 1024, allowed.window.max_bytes)
    assert (pulse.heartbeat_s, pulse.answer_s) == (0.5, 0.9)
    assert allowed.window.first_bytes == before


def test_a_full_window_fits_into_the_write_buffer_with_room_for_answers() -> None:
    allowed = allowances_of(settings(FLEETWIRE_HUB_WINDOW_MAX_BYTES="300000"))
    assert allowed.window.max_bytes == 300000 < allowed.socket.write_max_bytes


def test_no_socket_is_looked_at_before_a_limit_can_have_been_passed() -> None:
    allowed = allowances_of(settings())
    assert allowed.socket.first_look_bytes == allowed.times.inbound.first_look_bytes

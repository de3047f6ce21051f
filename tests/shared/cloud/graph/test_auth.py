"""Tokens of the application: by secret and by certificate, one for all, renewed before its end and after a refusal."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from loadtests.emulators.faults import Fault
from loadtests.emulators.graph import GraphEmulator
from shared.cloud.errors import Misconfigured, RateLimited, StoreUnavailable
from shared.cloud.graph.auth import AppTokens, Certificate, Secret
from tests.shared.cloud.graph.tenant import Tenant


def certificate_of(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleetwire")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def private(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


class Time:
    """A clock in a test's hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def timed(tokens: AppTokens) -> Time:
    tokens._time = time = Time()
    return time


async def test_one_token_serves_all_calls_until_shortly_before_its_end(tenant: Tenant, graph: GraphEmulator) -> None:
    tokens = tenant.tokens()
    time = timed(tokens)
    shown = await asyncio.gather(*(tokens.headers() for _ in range(20)))
    assert len({one["Authorization"] for one in shown}) == 1
    assert graph.login.admits(shown[0]["Authorization"])
    time.now += 3599 - 301
    await tokens.headers()
    assert graph.login.given == 1
    time.now += 2
    assert (await tokens.headers()) != shown[0]
    assert graph.login.given == 2


async def test_a_certificate_proves_the_application(
    tenant: Tenant, graph: GraphEmulator, key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    graph.login.certificate = certificate_of(key)
    file = tmp_path / "app.pem"
    file.write_bytes(private(key) + graph.login.certificate)
    provider = tenant.provider(tokens=tenant.tokens(proof=Certificate.read(file)))
    assert (await provider.probe()).total is not None
    graph.login.certificate = certificate_of(rsa.generate_private_key(65537, 2048))
    with pytest.raises(Misconfigured, match="AADSTS700027"):
        await tenant.tokens(proof=Certificate.read(file)).headers()


def test_a_certificate_file_that_does_not_serve_is_told_with_its_setting(
    key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    file = tmp_path / "app.pem"
    with pytest.raises(Misconfigured, match=r"FLEETWIRE_GRAPH_CERTIFICATE_FILE.*No such file"):
        Certificate.read(file)
    for content, why in (
        (b"nothing", "not a certificate and its private key"),
        (private(key), "not a certificate and its private key"),
        (certificate_of(key), "not a certificate and its private key"),
        (private(curve) + certificate_of(key), "not RSA"),
        (private(key) + certificate_of(rsa.generate_private_key(65537, 2048)), "not that of its certificate"),
    ):
        file.write_bytes(content)
        with pytest.raises(Misconfigured, match=why):
            Certificate.read(file)


async def test_a_token_that_graph_refuses_is_got_anew_once(tenant: Tenant, graph: GraphEmulator) -> None:
    provider = tenant.provider()
    await provider.put_new("a", b"a")
    graph.login.revoke()
    assert await asyncio.gather(*(provider.look("a") for _ in range(10)))
    assert graph.login.given == 2
    graph.login.revoke()
    assert (await provider.move("a", "b")).path == "b"
    graph.script.add(Fault("item", status=401, times=2))
    with pytest.raises(Misconfigured, match="401"):
        await provider.look("b")


async def test_what_entra_refuses_is_told_by_its_number_and_not_by_its_words(
    tenant: Tenant, graph: GraphEmulator
) -> None:
    with pytest.raises(Misconfigured, match=r"AADSTS7000215.*FLEETWIRE_GRAPH_TENANT") as refused:
        await tenant.tokens(proof=Secret("wrong")).headers()
    assert "wrong" not in str(refused.value)
    with pytest.raises(Misconfigured, match="AADSTS90002"):
        await tenant.tokens(tenant="elsewhere.example").headers()


async def test_while_the_old_token_lives_no_new_one_is_no_harm(tenant: Tenant, graph: GraphEmulator) -> None:
    tokens = tenant.tokens()
    time = timed(tokens)
    old = await tokens.headers()
    time.now += 3599 - 200
    graph.script.add(Fault("token", status=503, times=4))
    assert await tokens.headers() == old
    assert await tokens.headers() == old, "it is not asked for again at once"
    time.now += 201
    graph.script.clear()
    graph.script.add(Fault("token", status=503, times=4))
    with pytest.raises(StoreUnavailable):
        await tokens.headers()
    assert await tokens.headers() != old


async def test_being_told_to_wait_by_entra_is_a_rate_limit(tenant: Tenant, graph: GraphEmulator) -> None:
    graph.script.add(Fault("token", status=429, retry_after="90"))
    with pytest.raises(RateLimited) as limited:
        await tenant.tokens().headers()
    assert limited.value.retry_after_s == 90


async def test_no_secret_stands_in_a_repr(tenant: Tenant) -> None:
    tokens = tenant.tokens(proof=Secret("hush"))
    assert "hush" not in repr(tokens) + repr(Secret("hush")) + repr(vars(tokens).keys())

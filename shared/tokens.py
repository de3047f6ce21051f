"""JSON Web Tokens: what a key ring accepts, what a token may do, and how one is made.

Every key names its one algorithm, and a token is checked against the key its `kid` names and nothing else, so neither
`alg: none` nor a public key used as an HMAC secret gets anywhere (RFC 8725, sections 3.1 and 3.2). A ring holds several
keys at once: to rotate, add the new one, sign with it, retire the old one when its last token is over. Processes that
only verify are given public keys only.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard

import jwt
import orjson

from shared.protocol.ids import device_id_problem

__all__ = [
    "API_AUDIENCE",
    "HUB_AUDIENCE",
    "TOKEN_ID_MAX_LENGTH",
    "Claims",
    "InvalidToken",
    "KeyRing",
    "Refused",
    "Scope",
    "Ticket",
    "TokenRules",
    "principal_of",
]

API_AUDIENCE: Final = "fleetwire"
HUB_AUDIENCE: Final = "hub"
LEEWAY_S: Final = 1.0
TOKEN_MAX_BYTES: Final = 8192
TOKEN_ID_MAX_LENGTH: Final = 128
# The end of the year 9999: later is no date, and mostly milliseconds where seconds belong.
TIME_MAX: Final = 253_402_300_799

Scope = Literal["device", "operator", "service"]
_KINDS: Final = ("device", "operator", "service")
_SCOPES: Final = frozenset(_KINDS)
_ALGORITHMS: Final = frozenset({"EdDSA", "ES256", "RS256", "HS256"})

Refused = Literal[
    "missing",
    "malformed",
    "expired",
    "not_yet_valid",
    "unknown_key",
    "bad_signature",
    "wrong_audience",
    "wrong_issuer",
    "bad_claims",
]


class InvalidToken(ValueError):
    """A token that is not accepted. `reason` is for counters, `str()` for the sender; neither holds the token."""

    def __init__(self, reason: Refused, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refused = reason


def principal_of(kind: str, subject: str) -> str:
    """The principal of a subject whose kind is known without a token; `Claims.principal` is the usual way."""
    return f"{kind}:{subject}"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified bearer token says. `device_class` comes with device tokens; times are Unix seconds.

    `issued_at` is never later than the moment it was verified, so that a token cannot outlive a revocation by dating
    itself ahead; None when the token does not say.
    """

    subject: str
    scopes: frozenset[str]
    device_class: str | None
    expires_at: float
    key_id: str
    token_id: str | None = None
    issued_at: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the token carries this scope."""
        return scope in self.scopes

    @property
    def principal(self) -> str:
        """In whose name something is done, and whose keys are whose: `device:truck-7`, `operator:olga`.

        A token of several scopes counts as the first of device, operator, service.
        """
        kind = next((scope for scope in _KINDS if scope in self.scopes), "nobody")
        return principal_of(kind, self.subject)


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a verified socket ticket says.

    It admits once (`token_id`), until `admission_expires_at`; the connection it opens lives to `session_expires_at`.
    `parent` is the id of the token that it was made for, if that had one, `parent_key_id` the key that signed it, and
    `issued_at` is when that token was issued: what ends the token ends the ticket.
    """

    subject: str
    device_class: str | None
    session_expires_at: float
    admission_expires_at: float
    key_id: str
    token_id: str
    issued_at: float | None = None
    parent: str | None = None
    parent_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What bearer tokens must say beside their signature, and what those that are minted here say.

    `issuer` None: any or none. `skew_s`: how far the clock of whoever signs may be from this one's.
    """

    issuer: str | None = None
    audience: str = API_AUDIENCE
    skew_s: float = 0.0


class KeyRing:
    """Keys by id, from a JSON Web Key Set (RFC 7517). Each key must carry `kid` and `alg`.

    A process has one ring of a kind for as long as it runs; `adopt` gives it other keys. Keys that somebody else
    publishes are kept beside its own, which have precedence; they only verify.
    """

    def __init__(self, keys: Mapping[str, jwt.PyJWK], private: frozenset[str], rules: TokenRules | None = None) -> None:
        self._keys = keys
        self._private = private
        self._published: Mapping[str, jwt.PyJWK] = {}
        self._rules = rules or TokenRules()

    def adopt(self, other: "KeyRing") -> None:
        """Accept and sign with the keys of `other` from now on, and no longer with those of its own it had."""
        self._keys, self._private = other._keys, other._private

    def adopt_published(self, other: "KeyRing") -> bool:
        """Accept what is published now and no longer what was. Whether other key ids are accepted."""
        before = self.key_ids
        self._published = other._keys
        return before != self.key_ids

    def under(self, rules: TokenRules) -> "KeyRing":
        """A ring of the same keys with these rules."""
        return KeyRing(self._keys, self._private, rules)

    @classmethod
    def from_jwks(cls, text: str) -> "KeyRing":
        """Read a key set. Raises ValueError naming the key and the member to mend, never the key material."""
        try:
            entries = json.loads(text)["keys"]
        except (ValueError, KeyError, TypeError):
            raise ValueError('key set must be JSON of the form {"keys": [...]}') from None
        if not isinstance(entries, list) or not entries:
            raise ValueError("key set holds no key")
        keys: dict[str, jwt.PyJWK] = {}
        private: set[str] = set()
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict):
                raise ValueError(f"key {number} is not a JSON object")
            kid, alg = entry.get("kid"), entry.get("alg")
            if not isinstance(kid, str) or not kid or len(kid) > 128:
                raise ValueError(f"key {number} needs a kid of 1 to 128 characters")
            if alg not in _ALGORITHMS:
                raise ValueError(f"key {kid} needs alg, one of {', '.join(sorted(_ALGORITHMS))}")
            if kid in keys:
                raise ValueError(f"key {kid} appears twice")
            try:
                keys[kid] = jwt.PyJWK(entry, algorithm=alg)
            except (jwt.PyJWTError, ValueError, TypeError, KeyError):
                raise ValueError(f"key {kid} cannot be read as {alg}") from None
            if alg == "HS256" or "d" in entry:
                private.add(kid)
        return cls(keys, frozenset(private))

    def __repr__(self) -> str:
        return f"KeyRing({sorted(self.key_ids)}, signs with {self.signing_key_id})"

    @property
    def signing_key_id(self) -> str | None:
        """The last key of the set that has a private part: the one new tokens are signed with."""
        return next((kid for kid in reversed(list(self._keys)) if kid in self._private), None)

    @property
    def key_ids(self) -> frozenset[str]:
        """The keys that are accepted now."""
        return frozenset({**self._published, **self._keys})

    def verify(self, token: str, *, now: float) -> Claims:
        """A bearer token for the API, or for a hub in place of a ticket. Raises InvalidToken."""
        rules = self._rules
        payload, kid = self._decode(token, rules.audience, now, rules.skew_s)
        if rules.issuer is not None and payload.get("iss") != rules.issuer:
            raise InvalidToken("wrong_issuer", f"token is not issued (iss) by {rules.issuer}")
        scope = payload.get("scope", "")
        scopes = frozenset(scope.split()) & _SCOPES if isinstance(scope, str) else frozenset()
        subject = _subject(payload)
        if "device" in scopes and (problem := device_id_problem(subject)):
            raise InvalidToken("bad_claims", f"sub: {problem}")
        device_class, token_id = payload.get("class"), payload.get("jti")
        return Claims(
            subject=subject,
            scopes=scopes,
            device_class=device_class if isinstance(device_class, str) else None,
            expires_at=float(payload["exp"]) + rules.skew_s,
            key_id=kid,
            token_id=token_id if _is_id(token_id) else None,
            issued_at=_issued_at(payload.get("iat"), now),
        )

    def verify_ticket(self, token: str, *, now: float) -> Ticket:
        """A socket ticket. That it is used once is for the greeting statement to decide. Raises InvalidToken."""
        payload, kid = self._decode(token, HUB_AUDIENCE, now)
        subject = _subject(payload)
        if problem := device_id_problem(subject):
            raise InvalidToken("bad_claims", f"sub: {problem}")
        jti, session_exp, device_class = payload.get("jti"), payload.get("session_exp"), payload.get("class")
        parent, parent_key = payload.get("tid"), payload.get("tkid")
        if not _is_id(jti) or not 8 <= len(jti) <= 64:
            raise InvalidToken("bad_claims", "jti must be a string of 8 to 64 printable characters")
        if not _is_time(session_exp) or session_exp <= now:
            raise InvalidToken("bad_claims", "session_exp must be a time to come")
        return Ticket(
            subject=subject,
            device_class=device_class if isinstance(device_class, str) else None,
            session_expires_at=float(session_exp),
            admission_expires_at=float(payload["exp"]),
            key_id=kid,
            token_id=jti,
            issued_at=_issued_at(payload.get("tiat", payload.get("iat")), now),
            parent=parent if _is_id(parent) else None,
            parent_key_id=parent_key if _is_id(parent_key) else None,
        )

    def mint(
        self,
        *,
        subject: str,
        scopes: frozenset[str],
        now: float,
        lifetime_s: float,
        device_class: str | None = None,
        token_id: str | None = None,
    ) -> str:
        """A bearer token signed with the newest private key. Raises ValueError when the ring cannot sign."""
        if unknown := scopes - _SCOPES:
            raise ValueError(f"unknown scope {', '.join(sorted(unknown))}; use {', '.join(sorted(_SCOPES))}")
        payload: dict[str, Any] = {"aud": self._rules.audience, "sub": subject, "scope": " ".join(sorted(scopes))}
        if self._rules.issuer is not None:
            payload["iss"] = self._rules.issuer
        # With its milliseconds, so that a token made right after a revocation is seen to be newer.
        payload |= {"iat": round(now, 3), "exp": int(now + lifetime_s)}
        if device_class is not None:
            payload["class"] = device_class
        if token_id is not None:
            payload["jti"] = token_id
        return self._encode(payload)

    def mint_ticket(
        self,
        *,
        subject: str,
        token_id: str,
        now: float,
        lifetime_s: float,
        session_expires_at: float,
        device_class: str | None = None,
        parent: str | None = None,
        parent_issued_at: float | None = None,
        parent_key_id: str | None = None,
    ) -> str:
        """A ticket that opens one socket within `lifetime_s` (at most 60). Only the API makes them.

        `parent` (its id), `parent_issued_at` and `parent_key_id` are of the token it is made for.
        """
        if not 0 < lifetime_s <= 60:
            raise ValueError("a ticket lives for at most 60 s")
        payload: dict[str, Any] = {"aud": HUB_AUDIENCE, "sub": subject, "jti": token_id, "iat": int(now)}
        payload |= {"exp": int(now + lifetime_s), "session_exp": int(session_expires_at)}
        if device_class is not None:
            payload["class"] = device_class
        if parent is not None:
            payload["tid"] = parent
        if parent_key_id is not None:
            payload["tkid"] = parent_key_id
        # Null, too, says something: the token was one that counts as older than any revocation.
        payload["tiat"] = parent_issued_at
        return self._encode(payload)

    def _encode(self, payload: dict[str, Any]) -> str:
        kid = self.signing_key_id
        if kid is None:
            raise ValueError("the key set holds public keys only; give this process a private one to sign with")
        key = self._keys[kid]
        return jwt.encode(payload, key.key, algorithm=key.algorithm_name, headers={"kid": kid})

    def _decode(self, token: str, audience: str, now: float, skew_s: float = 0.0) -> tuple[dict[str, Any], str]:
        if not token:
            raise InvalidToken("missing", "no token was given")
        if len(token) > TOKEN_MAX_BYTES:
            raise InvalidToken("malformed", f"token is longer than {TOKEN_MAX_BYTES} characters")
        kid = _named_key(token)
        key = (self._keys.get(kid) or self._published.get(kid)) if isinstance(kid, str) else None
        if key is None:
            raise InvalidToken("unknown_key", "token names no key (kid) that is accepted here")
        try:
            # exp, nbf and iat are checked below, against the clock of the caller.
            options: Any = {
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "require": ["exp", "sub", "aud"],
            }
            payload = jwt.decode(token, key.key, algorithms=[key.algorithm_name], audience=audience, options=options)
        except jwt.InvalidAudienceError:
            raise InvalidToken("wrong_audience", f"token is not for this audience ({audience})") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken("bad_claims", f"token has no {error.claim}") from None
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError, jwt.InvalidKeyError):
            raise InvalidToken("bad_signature", "token's signature does not hold") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise InvalidToken("malformed", "token is not a JWT") from None
        _check_times(payload, now, skew_s)
        return payload, str(kid)


def _named_key(token: str) -> object:
    """The `kid` of the header, all that is needed to find the key. pyjwt would take the whole token apart for it."""
    header = token.partition(".")[0]
    try:
        fields = orjson.loads(b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True))
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidToken("malformed", "token is not a JWT")
    return fields.get("kid")


def _check_times(payload: Mapping[str, Any], now: float, skew_s: float) -> None:
    expires_at, not_before = payload["exp"], payload.get("nbf", 0)
    for name, value in (("exp", expires_at), ("nbf", not_before)):
        if not _is_time(value):
            raise InvalidToken("bad_claims", f"{name} must be Unix seconds before the year 10000")
    if now >= expires_at + skew_s:
        raise InvalidToken("expired", "token has expired")
    if now < not_before - max(LEEWAY_S, skew_s):
        raise InvalidToken("not_yet_valid", "token is not valid yet")


def _issued_at(value: Any, now: float) -> float | None:
    return min(float(value), now) if _is_time(value) else None


def _is_time(value: Any) -> TypeGuard[int | float]:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= TIME_MAX


def _is_id(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 1 <= len(value) <= TOKEN_ID_MAX_LENGTH and value.isprintable()


def _subject(payload: Mapping[str, Any]) -> str:
    subject = payload["sub"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= 128 or not subject.isprintable():
        raise InvalidToken("bad_claims", "sub must be a string of 1 to 128 printable characters")
    return subject

"""Objects in S3 stores, by path, and who one is there.

Requests are signed by obstore; nothing else of it is used, as its errors hold what it signs.
"""

import configparser
import os
import time
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from sparsemed.install_hint import how_to_install
from sparsemed.storage.connections import Calls
from sparsemed.storage.remote import Record, Way
from sparsemed.storage.urls import Url, parse_url

SIGNED_SECONDS = 3600
"""How long a signature counts."""


class _Login(NamedTuple):
    """What signs requests: it stays in this process."""

    key: str
    secret: str
    token: str | None


class S3Place(NamedTuple):
    """An object in an S3 store.

    Attributes
    ----------
    bucket, name : str
        The name is the object's key, as it is.
    endpoint : str or None
        Address of the store; None means that of `AWS_ENDPOINT_URL` or `DCLAB_S3_ENDPOINT_URL`, or
        Amazon's.
    """

    bucket: str
    name: str
    endpoint: str | None = None

    @property
    def shown(self) -> str:
        """The address that people give."""
        return f"s3://{self.bucket}/{self.name}"

    @property
    def key(self) -> str:
        """The same, and in which store."""
        return self._url.shown

    @property
    def file_name(self) -> str:
        """What the object is called."""
        return self.name.rpartition("/")[2]

    @property
    def is_renewed(self) -> bool:
        """Whether there can be another link: signatures expire."""
        return True

    @property
    def _url(self) -> Url:
        base = parse_url(self.endpoint or _endpoint())
        path = f"{base.path.rstrip('/')}/{self.bucket}/{quote(self.name, safe='/~-._')}"
        return base._replace(path=path)

    def way(self, _: Calls) -> Way:
        """Return how it is asked for: signed, where somebody says who we are.

        Raises
        ------
        OSError
            If the profile that is named has no keys.
        ImportError
            If a library is missing that reads profiles, or signs.
        """
        login = _login()
        if login is None:
            return Way(self._url)
        return Way(self._signed(login), until=time.time() + SIGNED_SECONDS)

    def _signed(self, login: _Login) -> Url:
        try:
            import obstore
            from obstore.store import S3Store
        except ModuleNotFoundError as error:
            raise ImportError(f"{error}: {how_to_install('obstore', 'remote')}") from error
        config: Any = {
            "access_key_id": login.key,
            "secret_access_key": login.secret,
            "region": _region(),
            "endpoint": (self.endpoint or _endpoint()).rstrip("/"),
            "virtual_hosted_style_request": False,
        }
        if login.token:
            config["session_token"] = login.token
        try:
            store = S3Store(self.bucket, config=config, client_options={"allow_http": True})
            signed = obstore.sign(store, "GET", self.name, timedelta(seconds=SIGNED_SECONDS))
        except Exception as error:
            raise OSError(
                f"{self.shown}: requests cannot be signed ({type(error).__name__}); check keys and "
                "address of the store"
            ) from None
        return parse_url(signed)

    @property
    def record(self) -> Record:
        """How others find it."""
        return Record("http" if _login() is None else "s3", self._url.shown)


def parse_s3(text: str) -> S3Place:
    """Return the place that an address ``s3://bucket/key`` means. Nothing in it is encoded.

    Raises
    ------
    ValueError
        If it is none.
    """
    bucket, _, name = text.strip()[len("s3://") :].partition("/")
    if not bucket or not name:
        raise ValueError(f"{text!r} is no address like s3://bucket/key")
    return S3Place(bucket, name)


def as_s3(url: Url) -> S3Place | None:
    """Return the object of the store that is known here that an address leads to, by path."""
    store = parse_url(_endpoint())
    base = store.path.rstrip("/")
    bucket, _, name = url.path.removeprefix(f"{base}/").partition("/")
    is_here = (url.scheme, url.netloc) == (store.scheme, store.netloc)
    return S3Place(unquote(bucket), unquote(name)) if is_here and name else None


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"


def _endpoint() -> str:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "DCLAB_S3_ENDPOINT_URL"):
        if found := os.environ.get(name):
            return found
    return f"https://s3.{_region()}.amazonaws.com"


def _login() -> _Login | None:
    """Return who we are, from the first that says so; None for a nobody.

    The services that tell machines in a cloud who they are, are not asked.
    """
    env = os.environ.get
    if (key := env("AWS_ACCESS_KEY_ID")) and (secret := env("AWS_SECRET_ACCESS_KEY")):
        return _Login(key, secret, env("AWS_SESSION_TOKEN"))
    if (key := env("DCLAB_S3_ACCESS_KEY_ID")) and (secret := env("DCLAB_S3_SECRET_ACCESS_KEY")):
        return _Login(key, secret, None)
    if env("AWS_PROFILE") or _has_default_profile():
        return _of_profile(env("AWS_PROFILE") or "default")
    return None


def _has_default_profile() -> bool:
    place = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read(os.path.expanduser(place))
    except (OSError, configparser.Error, UnicodeDecodeError):
        return False
    return found.has_option("default", "aws_access_key_id")


def _of_profile(name: str) -> _Login:
    try:
        import botocore.session
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise ImportError(
            f"{error}: the profile {name!r} is read by boto3: {how_to_install('boto3')}"
        ) from error
    try:
        session = botocore.session.Session(profile=name)
        providers = session.get_component("credential_provider")
        for service in ("container-role", "iam-role"):
            providers.remove(service)
        found = session.get_credentials()
        frozen = None if found is None else found.get_frozen_credentials()
    except BotoCoreError as error:
        raise OSError(
            f"the profile {name!r} does not say who you are ({type(error).__name__}); "
            "check AWS_PROFILE, or log in again"
        ) from None
    if frozen is None:
        raise OSError(f"the profile {name!r} has no keys; check AWS_PROFILE, or log in again")
    return _Login(frozen.access_key, frozen.secret_key, frozen.token)

"""Objects in S3 stores, and the credentials for them.

obstore signs requests; it is used for nothing else, as its errors contain signed addresses.
"""

import configparser
import os
import time
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from sparsemed.install_hint import how_to_install
from sparsemed.storage.connections import Calls
from sparsemed.storage.place import Record, Way
from sparsemed.storage.urls import Url, parse_url

SIGNED_SECONDS = 3600
"""Seconds for which a signature is valid."""


class _Login(NamedTuple):
    """Credentials to sign requests; they never leave this process."""

    key: str
    secret: str
    token: str | None


class S3Place(NamedTuple):
    """An object in an S3 store.

    Attributes
    ----------
    bucket, name : str
        The name is the key of the object, not encoded.
    endpoint : str or None
        Address of the store. None: from `AWS_ENDPOINT_URL` or `DCLAB_S3_ENDPOINT_URL`, or Amazon.
    """

    bucket: str
    name: str
    endpoint: str | None = None

    @property
    def shown(self) -> str:
        """The address as users write it."""
        return f"s3://{self.bucket}/{self.name}"

    @property
    def key(self) -> str:
        """The address with the store."""
        return self._url.shown

    @property
    def file_name(self) -> str:
        """Name of the object."""
        return self.name.rpartition("/")[2]

    @property
    def is_renewed(self) -> bool:
        """True: signatures expire, and there are new ones."""
        return True

    @property
    def _url(self) -> Url:
        base = parse_url(self.endpoint or _endpoint())
        path = f"{base.path.rstrip('/')}/{self.bucket}/{quote(self.name, safe='/~-._')}"
        return base._replace(path=path)

    def way(self, _: Calls) -> Way:
        """Return the request for the object, signed if there are credentials.

        Raises
        ------
        OSError
            If the chosen profile has no keys.
        ImportError
            If the library that reads profiles or signs requests is missing.
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
                f"{self.shown}: requests cannot be signed ({type(error).__name__}); check the keys "
                "and the address of the store"
            ) from None
        return parse_url(signed)

    @property
    def record(self) -> Record:
        """How readers find it."""
        return Record("http" if _login() is None else "s3", self._url.shown)


def parse_s3(text: str) -> S3Place:
    """Return the place of an address ``s3://bucket/key``, which is not encoded.

    Raises
    ------
    ValueError
        If it is no such address.
    """
    bucket, _, name = text.strip()[len("s3://") :].partition("/")
    if not bucket or not name:
        raise ValueError(f"{text!r} is no address like s3://bucket/key")
    return S3Place(bucket, name)


def as_s3(url: Url) -> S3Place | None:
    """Return the object of an address in the configured store, or None for other addresses."""
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
    """Return the first credentials found; None for anonymous requests.

    Metadata services of cloud machines are not used.
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
            f"the profile {name!r} gives no credentials ({type(error).__name__}); check "
            "AWS_PROFILE, or log in again"
        ) from None
    if frozen is None:
        raise OSError(f"the profile {name!r} has no keys; check AWS_PROFILE, or log in again")
    return _Login(frozen.access_key, frozen.secret_key, frozen.token)

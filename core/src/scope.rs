//! Who is asking: a key belongs to a principal, and an answer is replayed to nobody else.
//!
//! A *stable* principal (a tenant's name set by a trusted peer, a session's cookie, whatever a closure reads
//! from the request) is part of a record's identity: two tenants may both use the key `order-1`. Credentials
//! are not, because tokens rotate between two tries: a key is *bound* to the ones that first used it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::identity::Secret;
use crate::key::Key;
use crate::record::PrincipalTag;

/// Says who is asking. The default is [`Scope::credentials`].
///
/// Changing it makes live keys run again where a stable principal joins or leaves the identity.
#[derive(Clone)]
pub struct Scope(Kind);

#[derive(Clone)]
enum Kind {
    Credentials,
    Header(HeaderName),
    Cookie(Arc<str>),
    Closure(Arc<Reader>),
    Extension(&'static str, Arc<ExtensionReader>),
    Shared,
}

type Reader = dyn Fn(&Parts) -> Option<String> + Send + Sync;

/// `None`: there is no such extension.
type ExtensionReader = dyn Fn(&Parts) -> Option<Option<String>> + Send + Sync;

impl Scope {
    /// The credentials of the request: `Authorization` of scheme Basic, Bearer, ApiKey or Token, together
    /// with `X-Api-Key`.
    ///
    /// Where nothing but cookies, a field such as `X-Auth-Token`, `X-Access-Token`, `Api-Key`, `X-Session-Token` or
    /// `X-Session-Id`, or a scheme that changes with every request (Digest, AWS4-HMAC-SHA256, DPoP and every
    /// unknown one) says who the caller is, the key must be [strong](Key::is_strong). So it
    /// must beside an `X-Api-Key` with cookies or such a scheme: that often names an application, and all
    /// its users share it. A request without any of these is [`Principal::Public`].
    pub const fn credentials() -> Self {
        Self(Kind::Credentials)
    }

    /// A field that a trusted peer sets, such as a tenant's name. The peer must remove what clients send
    /// under that name.
    pub const fn header(name: HeaderName) -> Self {
        Self(Kind::Header(name))
    }

    /// The value of a cookie, such as a session's. Names are compared case-sensitively (RFC 6265).
    pub fn cookie(name: impl Into<Arc<str>>) -> Self {
        Self(Kind::Cookie(name.into()))
    }

    /// What the closure reads from the request and its extensions: a claim of a verified token, the subject
    /// of a client certificate. `None` and the empty string refuse the request.
    ///
    /// ```
    /// use semel_core::scope::Scope;
    ///
    /// #[derive(Clone)]
    /// struct Account(u64);
    ///
    /// let scope = Scope::from_fn(|parts| parts.extensions.get::<Account>().map(|account| account.0.to_string()));
    /// # let _ = scope;
    /// ```
    pub fn from_fn(read: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Kind::Closure(Arc::new(read)))
    }

    /// What the closure reads from an extension that the framework's own authentication has set: a user, the claims of a
    /// verified token. `None`, the empty string and a request without the extension are refused.
    ///
    /// Whoever sets it has to come before Semel: a layer outside of it (in axum and actix-web the one that is added later).
    /// The log says so once where a request comes without it.
    ///
    /// ```
    /// use semel_core::scope::Scope;
    ///
    /// #[derive(Clone)]
    /// struct User {
    ///     id: u64,
    /// }
    ///
    /// let scope = Scope::extension(|user: &User| user.id.to_string());
    /// # let _ = scope;
    /// ```
    pub fn extension<T, S>(read: impl Fn(&T) -> S + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        S: Into<Option<String>>,
    {
        let read = move |parts: &Parts| parts.extensions.get::<T>().map(|found| read(found).into());
        Self(Kind::Extension(std::any::type_name::<T>(), Arc::new(read)))
    }

    /// The type of the extension that this scope reads, where the request does not have it: a layer that sets it is missing,
    /// or stands where it comes too late.
    pub fn lacks_extension(&self, parts: &Parts) -> Option<&'static str> {
        match &self.0 {
            Kind::Extension(name, read) => read(parts).is_none().then_some(*name),
            Kind::Credentials | Kind::Header(_) | Kind::Cookie(_) | Kind::Closure(_) | Kind::Shared => None,
        }
    }

    /// One namespace for all callers: whoever sends a key and the same request gets the stored answer.
    pub const fn shared() -> Self {
        Self(Kind::Shared)
    }

    /// Finds the principal of a request, or says why there is none.
    pub fn principal(&self, parts: &Parts, key: &Key) -> Result<Principal, ScopeError> {
        match &self.0 {
            Kind::Credentials => credentials(&parts.headers, key),
            Kind::Header(name) => {
                let needed = || Cow::Owned(format!("the field {name}"));
                let value = sole_value(&parts.headers, name).map_err(|lack| lack.of(needed()))?;
                stable(value.unwrap_or_default(), needed)
            }
            Kind::Cookie(name) => {
                let needed = || Cow::Owned(format!("the cookie {name}"));
                let value = cookie(&parts.headers, name).map_err(|lack| lack.of(needed()))?;
                stable(value, needed)
            }
            Kind::Closure(read) => {
                let value = Zeroizing::new(read(parts).unwrap_or_default());
                stable(value.as_bytes(), || Cow::Borrowed("a valid sign of who is calling"))
            }
            Kind::Extension(_, read) => {
                let value = Zeroizing::new(read(parts).flatten().unwrap_or_default());
                stable(value.as_bytes(), || Cow::Borrowed("a valid sign of who is calling"))
            }
            Kind::Shared => Ok(Principal::Shared),
        }
    }

    /// The fields that say who is asking: a proxy on the way must not be told to remove them.
    pub(crate) fn fields(&self) -> &[HeaderName] {
        static CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, HeaderName::from_static("x-api-key")];
        static COOKIES: [HeaderName; 1] = [COOKIE];
        match &self.0 {
            Kind::Credentials => &CREDENTIALS,
            Kind::Header(name) => std::slice::from_ref(name),
            Kind::Cookie(_) => &COOKIES,
            Kind::Closure(_) | Kind::Extension(..) | Kind::Shared => &[],
        }
    }

    /// The scope in a few words: `credentials`, `header x-tenant`, `cookie session`, `application`, `extension app::User`,
    /// `shared`.
    pub fn describe(&self) -> String {
        match &self.0 {
            Kind::Credentials => "credentials".to_owned(),
            Kind::Header(name) => format!("header {name}"),
            Kind::Cookie(name) => format!("cookie {name}"),
            Kind::Closure(_) => "application".to_owned(),
            Kind::Extension(name, _) => format!("extension {name}"),
            Kind::Shared => "shared".to_owned(),
        }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::credentials()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({})", self.describe())
    }
}

/// Who a key belongs to. `Debug` shows the kind alone.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "identity and binding have to be decided for each")]
pub enum Principal {
    /// Nobody in particular: a public endpoint, or a key that is itself the only secret.
    Public,
    /// All callers together, by [`Scope::shared`].
    Shared,
    /// A name that stays the same between tries. Part of the record's identity.
    Stable(StableName),
    /// A digest of credentials. The record is bound to them, its identity is not.
    Bound([u8; 32]),
}

impl Principal {
    /// The bytes that join the record's identity.
    pub fn stable(&self) -> Option<&[u8]> {
        match self {
            Self::Stable(name) => Some(name.as_bytes()),
            Self::Public | Self::Shared | Self::Bound(_) => None,
        }
    }

    /// The tag that the record keeps and compares; none where nobody in particular is asking.
    pub fn tag(&self, secret: &Secret) -> Option<PrincipalTag> {
        match self {
            Self::Public | Self::Shared => None,
            Self::Stable(name) => Some(secret.principal_tag(name.as_bytes())),
            Self::Bound(credentials) => Some(secret.principal_tag(credentials)),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "Public",
            Self::Shared => "Shared",
            Self::Stable(_) => "Stable(..)",
            Self::Bound(_) => "Bound(..)",
        })
    }
}

/// A stable principal's name. It may be a session's secret: it is not shown, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct StableName(Zeroizing<Vec<u8>>);

impl StableName {
    /// Takes a name; `None` for the empty one, which names nobody.
    pub fn new(name: impl Into<Vec<u8>>) -> Option<Self> {
        let name = Zeroizing::new(name.into());
        (!name.is_empty()).then_some(Self(name))
    }

    /// The name's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for StableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StableName(..)")
    }
}

/// Why a request has no principal. The text is fit for the `detail` of a problem document: it shows neither
/// credentials nor key. Sending the same request again cannot help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScopeError {
    /// What says who is asking is missing or ambiguous.
    #[error("This request needs {needed}, which {lack}.")]
    Missing {
        /// What is needed: a field, a cookie.
        needed: Cow<'static, str>,
        /// What is wrong with it.
        lack: Lack,
    },
    /// The key is the only secret of this request, and anybody might guess it.
    #[error(
        "Nothing lasting in this request says who is calling, so the key itself must be hard to guess: send a \
         UUID, a ULID, a KSUID, at least 21 characters with upper case, lower case and digits, or at least 28 \
         letters and digits."
    )]
    WeakKey,
}

/// What is wrong with a sign of who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Lack {
    /// Not there, or empty.
    #[error("is missing or empty")]
    Absent,
    /// There more than once; which one counts is not for us to guess.
    #[error("was sent more than once")]
    Repeated,
}

impl Lack {
    fn of(self, needed: Cow<'static, str>) -> ScopeError {
        ScopeError::Missing { needed, lack: self }
    }
}

fn stable(value: &[u8], needed: impl FnOnce() -> Cow<'static, str>) -> Result<Principal, ScopeError> {
    StableName::new(value).map(Principal::Stable).ok_or_else(|| Lack::Absent.of(needed()))
}

fn credentials(headers: &HeaderMap, key: &Key) -> Result<Principal, ScopeError> {
    let x_api_key = HeaderName::from_static("x-api-key");
    let sole = |name: &HeaderName| {
        sole_value(headers, name).map_err(|lack| lack.of(Cow::Owned(format!("one field {name} at most"))))
    };
    let authorization = sole(&AUTHORIZATION)?.map_or(Authorization::None, Authorization::read);
    let api_key = sole(&x_api_key)?;

    let fleeting = match authorization {
        Authorization::Stable { .. } => false,
        Authorization::Fleeting => true,
        Authorization::None => {
            let said = |name| headers.get_all(name).iter().any(|line| !trim(line.as_bytes()).is_empty());
            said(COOKIE)
                || (headers.keys().any(is_foreign)
                    && FOREIGN.iter().any(|name| said(HeaderName::from_static(name))))
        }
    };
    if fleeting && !key.is_strong() {
        return Err(ScopeError::WeakKey);
    }
    let scheme = match authorization {
        Authorization::Stable { scheme, secret } => Some((scheme, secret)),
        Authorization::Fleeting | Authorization::None => None,
    };
    if scheme.is_none() && api_key.is_none() {
        return Ok(Principal::Public);
    }
    let mut digest = Sha256::new_with_prefix(b"semel/credentials/1");
    let fields = [scheme.map(|(name, _)| name.as_bytes()), scheme.map(|(_, secret)| secret), api_key];
    for field in fields {
        digest.update([u8::from(field.is_some())]);
        let bytes = field.unwrap_or_default();
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    Ok(Principal::Bound(digest.finalize().into()))
}

/// Fields by which some services know their callers. What they hold is not known here, so nothing is bound to
/// them; but where one is sent the endpoint is not public, and a key that others may choose too would show them
/// its answer.
const FOREIGN: [&str; 5] = ["x-auth-token", "x-access-token", "api-key", "x-session-token", "x-session-id"];

fn is_foreign(name: &HeaderName) -> bool {
    FOREIGN.contains(&name.as_str())
}

/// What an `Authorization` field says about its sender between two tries.
#[derive(Clone, Copy)]
enum Authorization<'a> {
    None,
    Stable { scheme: &'static str, secret: &'a [u8] },
    Fleeting,
}

impl<'a> Authorization<'a> {
    fn read(value: &'a [u8]) -> Self {
        let end = value.iter().position(|octet| is_space(*octet)).unwrap_or(value.len());
        let (name, rest) = value.split_at(end);
        let stable = ["basic", "bearer", "apikey", "token"];
        match stable.into_iter().find(|scheme| name.eq_ignore_ascii_case(scheme.as_bytes())) {
            None => Self::Fleeting,
            // A client without a token often sends the scheme alone; that names nobody.
            Some(_) if trim(rest).is_empty() => Self::None,
            Some(scheme) => Self::Stable { scheme, secret: trim(rest) },
        }
    }
}

/// The one value of a field that is not empty; `None` where there is none.
fn sole_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, Lack> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (_, Some(_)) => Err(Lack::Repeated),
        (line, None) => Ok(line.map(|line| trim(line.as_bytes())).filter(|value| !value.is_empty())),
    }
}

/// A cookie's value, from all `Cookie` lines: HTTP/2 clients may split them (RFC 9113, section 8.2.3).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a [u8], Lack> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|octet| *octet == b';') {
            let Some(equals) = pair.iter().position(|octet| *octet == b'=') else { continue };
            if trim(&pair[..equals]) != name.as_bytes() {
                continue;
            }
            let value = trim(&pair[equals + 1..]);
            if *found.get_or_insert(value) != value {
                return Err(Lack::Repeated);
            }
        }
    }
    found.ok_or(Lack::Absent)
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}
